-- Tells on standard error of each function that scripts register after this one, and registers it as they say.
local kinds = {
  register_fetches = "sample fetch",
  register_converters = "converter",
  register_action = "action",
  register_task = "task",
  register_init = "function that runs once",
  register_filter = "filter",
  event_sub = "subscription",
}

for name, kind in pairs(kinds) do
  local register = core[name]
  if register ~= nil then
    core[name] = function(first, ...)
      local called = type(first) == "string" and (" lua." .. first) or ""
      io.stderr:write("layers: registered: " .. kind .. called .. "\n")
      return register(first, ...)
    end
  end
end
