// Where the address leads, light or dark, and what the page begins with.

// #run-0, #run-0/finding-2, #run-0/call-79: the run, the calls of a finding in it, one call by its position.
function follow(viewer) {
  const [, run, what, number] = /^#run-(\d+)(?:\/(finding|call)-(\d+))?$/.exec(location.hash) ?? [];
  const inside = run === undefined ? document.getElementById(location.hash.slice(1)) : null;
  for (let around = inside; around; around = around.parentElement) {
    if (around.matches("details")) around.open = true;
  }
  inside?.scrollIntoView();
  if (run === undefined || !viewer?.open(Number(run))) return;
  if (what === "finding") {
    const finding = $(`finding-${number}`);
    if (finding) viewer.show(finding);
  } else if (what === "call") {
    const event = viewer.run.eventAt(Number(number));
    if (event >= 0) viewer.select(viewer.run.itemAt[event]);
  }
  $("picture").scrollIntoView();
  viewer.canvas.focus({ preventScroll: true });
}

function theme(viewer) {
  const button = $("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show the page ${isDark() ? "light" : "dark"}`);
    viewer?.drawing.recolour();
    viewer?.redraw();
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  system.addEventListener("change", show);
  button.hidden = false;
  show();
}

const viewer = $("viewer") ? new Viewer() : null;
viewer?.open(0);
theme(viewer);
filterGrid($("filter"));
addEventListener("hashchange", () => follow(viewer));
// The same address again leads there again.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='#run-']");
  if (link && link.getAttribute("href") === location.hash) follow(viewer);
});
follow(viewer);
