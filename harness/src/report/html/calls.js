// All calls of the run as a list; only the lines in sight are in the document.

const LINE = 26;

class Calls {
  constructor(box, choose) {
    this.box = box;
    this.sizer = box.firstElementChild;
    this.choose = choose;
    box.addEventListener("scroll", () => this.render());
    box.addEventListener("click", (event) => {
      const line = event.target.closest("[data-item]");
      if (line) this.choose(Number(line.dataset.item));
    });
    box.addEventListener("keydown", (event) => this.key(event));
  }

  set(run, selection) {
    this.run = run;
    this.selection = selection;
    this.sizer.style.height = `${run.count * LINE}px`;
    this.box.scrollTop = 0;
    this.render();
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / LINE) - 1);
    const here = this.selection.item;
    const steps = { ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + page, PageUp: here - page, Home: 0, End: Infinity };
    if (!Object.hasOwn(steps, event.key) || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.choose(Math.max(0, Math.min(this.run.count - 1, steps[event.key])));
  }

  reveal(item) {
    const top = item * LINE, { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + LINE > scrollTop + clientHeight) this.box.scrollTop = top + LINE - clientHeight;
    this.render();
  }

  render() {
    if (!this.run) return;
    const first = Math.max(0, Math.floor(this.box.scrollTop / LINE) - 2);
    const last = Math.min(this.run.count, first + Math.ceil(this.box.clientHeight / LINE) + 5);
    const lines = [];
    for (let item = first; item < last; item++) lines.push(this.line(item));
    this.sizer.replaceChildren(...lines);
    const { item } = this.selection;
    if (item >= first && item < last) this.box.setAttribute("aria-activedescendant", `call-${item}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  line(item) {
    const { run, selection } = this;
    const line = element("div", "call");
    line.id = `call-${item}`;
    line.dataset.item = item;
    line.style.top = `${item * LINE}px`;
    line.setAttribute("role", "option");
    line.setAttribute("aria-posinset", item + 1);
    line.setAttribute("aria-setsize", run.count);
    line.setAttribute("aria-selected", item === selection.item);
    if (selection.isMarked(item)) line.classList.add("marked");
    line.append(
      element("span", "position", run.span(item)[0]),
      element("span", `where of-${run.family(item)}`, run.place(item)),
      element("code", "", (selection.isMarked(item) ? "▸ " : "") + run.line(item)),
    );
    return line;
  }
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}
