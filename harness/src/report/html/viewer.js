// The picture of the chosen run, with its tools, its keys and its pointer.

const $ = (id) => document.getElementById(id);

class Viewer {
  constructor() {
    this.view = new View();
    this.selection = new Selection();
    this.runs = new Map();
    this.canvas = $("canvas");
    this.drawing = new Drawing(this.canvas, $("overview"));
    this.calls = new Calls($("calls"), (item) => this.select(item));
    $("viewer").hidden = false;
    this.number = -1;
    this.buttons();
    this.pointer();
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.resize()).observe(this.canvas.parentElement);
  }

  buttons() {
    $("run").addEventListener("change", () => { location.hash = `#run-${$("run").value}`; });
    $("lanes").addEventListener("change", () => this.layout());
    $("back").addEventListener("click", () => this.select(this.selection.marked(this.run, -1)));
    $("forth").addEventListener("click", () => this.select(this.selection.marked(this.run, 1)));
    $("in").addEventListener("click", () => this.zoom(1.6));
    $("out").addEventListener("click", () => this.zoom(1 / 1.6));
    $("fit").addEventListener("click", () => this.whole());
  }

  // Shows this run, unless it is there already.
  open(number) {
    if (this.number === number) return true;
    const data = $(`run-${number}-data`);
    if (!data) return false;
    if (!this.runs.has(number)) this.runs.set(number, new Run(JSON.parse(data.textContent)));
    this.number = number;
    this.run = this.runs.get(number);
    this.selection.clear();
    $("run").value = number;
    $("count").textContent = this.run.count.toLocaleString("en");
    this.calls.set(this.run, this.selection);
    this.layout();
    this.view.whole();
    this.describe();
    return true;
  }

  layout() {
    this.rows = new Rows(this.run, $("lanes").value === "thread");
    this.resize();
  }

  resize() {
    if (!this.run) return;
    const { clientWidth } = this.canvas.parentElement;
    const rows = this.rows.items.length * ROW + (this.rows.lanes.length + 1) * LANE_GAP;
    const height = Math.max(160, Math.min(rows, Math.round(innerHeight * 0.62)));
    this.drawing.resize(clientWidth, height);
    this.view.set(clientWidth, height, clientWidth < 700 ? 104 : 176, this.rows);
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.drawing.draw(this.view, this.selection);
    });
  }

  zoom(factor, x = this.view.gutter + this.view.span / 2) {
    const { item } = this.selection;
    const middle = item >= 0 ? this.view.x((this.run.begins[item] + this.run.ends[item] + 1) / 2) : x;
    this.view.zoom(factor, middle >= this.view.gutter && middle <= this.view.width ? middle : x);
    this.redraw();
  }

  whole() {
    this.view.whole();
    this.redraw();
  }

  select(item) {
    if (item < 0) return;
    this.selection.item = item;
    this.view.reveal(item);
    this.calls.reveal(item);
    this.describe();
    this.redraw();
  }

  // The calls of a finding: all of them marked, the last selected.
  show(finding) {
    const positions = (finding.dataset.calls || "").split(",").filter(Boolean).map(Number);
    this.selection.mark(this.run, positions, finding);
    const { marks } = this.selection;
    if (marks.length) {
      this.view.range(marks[0].event, marks.at(-1).event);
      this.select(marks.at(-1).item);
    }
    this.calls.render();
    this.describe();
    this.redraw();
  }

  describe() {
    const { selection, run } = this;
    const marked = new Set(selection.marks.map((mark) => mark.item)).size;
    $("back").disabled = $("forth").disabled = !marked;
    const id = selection.finding?.querySelector(".id").textContent;
    const note = !selection.finding ? "" : marked ? `${marked === 1 ? "1 call" : `${marked} calls`} marked: ${id}` : `${id} quotes no call of this run`;
    $("marking").textContent = note;
    $("selected").replaceChildren(selection.item < 0 ? element("p", "nothing", "None. Click a call, or press an arrow key in the picture.") : this.details(selection.item));
    this.canvas.setAttribute("aria-label", selection.item < 0 ? `${run.count} calls of ${run.name}` : run.line(selection.item));
  }

  details(item) {
    const { run, selection } = this;
    const list = element("dl", "said");
    const add = (name, value) => {
      if (!value) return;
      const row = element("div", "");
      row.append(element("dt", "", name), element("dd", "", value));
      list.append(row);
    };
    add("Call", run.title(item));
    add("Where", run.place(item));
    add("Arguments", run.arguments(item));
    add("Result", run.neverReturned(item) ? "it never returned" : run.result(item));
    add("Position", run.span(item).join(" to "));
    const around = run.parents[item];
    add("Inside", around < 0 ? "" : `${run.place(around)}: ${run.title(around)}`);
    add("Marked", selection.isMarked(item) ? "it is one of the calls that conflict" : "");
    return list;
  }

  key(event) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const pan = { ArrowLeft: [-80, 0], ArrowRight: [80, 0], ArrowUp: [0, -ROW * 2], ArrowDown: [0, ROW * 2] }[event.key];
    const zoom = { "+": 1.6, "=": 1.6, "-": 1 / 1.6, "_": 1 / 1.6 }[event.key];
    if (event.shiftKey && pan) this.view.move(...pan);
    else if (zoom) this.zoom(zoom);
    else if (event.key === "0") this.view.whole();
    else {
      const item = this.selection.moved(event.key, this.run, this.rows);
      if (item === null) return;
      this.select(item);
    }
    event.preventDefault();
    this.redraw();
  }

  pointer() {
    const { canvas } = this;
    let drag = null;
    canvas.addEventListener("pointerdown", (event) => {
      drag = { x: event.offsetX, y: event.offsetY, moved: false };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!drag) return this.hover(event);
      const x = drag.x - event.offsetX, y = drag.y - event.offsetY;
      if (!drag.moved && Math.hypot(x, y) < 4) return;
      Object.assign(drag, { x: event.offsetX, y: event.offsetY, moved: true });
      this.hover(null);
      this.view.move(x, y);
      this.redraw();
    });
    canvas.addEventListener("pointerup", (event) => {
      if (drag && !drag.moved) this.select(this.at(event));
      drag = null;
    });
    canvas.addEventListener("pointercancel", () => { drag = null; });
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    $("overview").addEventListener("pointerdown", (event) => this.jump(event));
    $("overview").addEventListener("pointermove", (event) => { if (event.buttons) this.jump(event); });
  }

  // The wheel alone scrolls the page until the lanes have somewhere to go.
  wheel(event) {
    const { view } = this;
    if (event.ctrlKey || event.metaKey) this.view.zoom(Math.exp(-event.deltaY / 300), event.offsetX);
    else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) view.move(event.deltaX || event.deltaY, 0);
    else {
      const before = view.top;
      view.move(0, event.deltaY);
      if (view.top === before) return;
    }
    event.preventDefault();
    this.redraw();
  }

  jump(event) {
    const { view } = this;
    const at = (event.offsetX - view.gutter) / view.span * this.run.length;
    view.left = at - view.span / view.scale / 2;
    view.clamp();
    this.redraw();
  }

  at(event) {
    const { view, run, rows } = this;
    if (event.offsetX < view.gutter) return -1;
    const row = view.rowAt(event.offsetY);
    if (row < 0) return -1;
    const exact = rows.at(row, Math.floor(view.event(event.offsetX)));
    if (exact >= 0) return exact;
    // What is narrower than a pixel can still be hit.
    const near = rows.at(row, Math.ceil(view.event(event.offsetX + 2)));
    return near >= 0 && Math.abs(view.x(run.begins[near]) - event.offsetX) < 4 ? near : -1;
  }

  hover(event) {
    const tip = $("hover");
    const item = event ? this.at(event) : -1;
    tip.hidden = item < 0;
    this.canvas.style.cursor = item < 0 ? "grab" : "pointer";
    if (item < 0) return;
    const { run } = this;
    tip.replaceChildren(
      element("strong", "", run.title(item)),
      element("span", "where", `${run.place(item)} · ${run.span(item).join(" to ")}`),
      element("code", "", [run.arguments(item), run.neverReturned(item) ? "never returned" : run.result(item)].filter(Boolean).join(" ")),
    );
    const room = this.canvas.clientWidth - tip.offsetWidth - 8;
    tip.style.left = `${Math.max(0, Math.min(room, event.offsetX + 14))}px`;
    const below = this.canvas.offsetTop + event.offsetY + 18;
    const fits = below + tip.offsetHeight <= this.canvas.parentElement.clientHeight;
    tip.style.top = `${fits ? below : Math.max(0, below - tip.offsetHeight - 28)}px`;
  }
}
