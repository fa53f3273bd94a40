// The grid of verdicts: which of its cells are shown.

function filterGrid(form) {
  const cells = [...document.querySelectorAll(".cell")];
  const texts = cells.map((cell) => `${cell.dataset.id} ${cell.textContent}`.toLowerCase());
  const families = [...document.querySelectorAll("[data-family]")];
  const apply = () => {
    const words = new Set([...form.querySelectorAll("[name=word]:checked")].map((box) => box.value));
    const wanted = form.querySelector("#search").value.trim().toLowerCase();
    let shown = 0;
    cells.forEach((cell, index) => {
      cell.hidden = !words.has(cell.dataset.word) || !texts[index].includes(wanted);
      shown += cell.hidden ? 0 : 1;
    });
    for (const family of families) family.hidden = !family.querySelector(".cell:not([hidden])");
    form.querySelector("#shown").textContent = `${shown} of ${cells.length} shown`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
