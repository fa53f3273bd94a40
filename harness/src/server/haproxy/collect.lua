-- Commands of the harness's own: one has Lua give back what it does not need any more, the other answers by many lines.
core.register_cli({"layers", "collect"}, "", function()
  collectgarbage("collect")
end)

core.register_cli({"layers", "lines"}, "", function(applet)
  for number = 1, 1000 do
    applet:send("line " .. number .. "\n")
  end
end)
