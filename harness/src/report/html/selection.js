// Which call is selected, which are marked, and how keys move from one to another.

class Selection {
  constructor() {
    this.clear();
  }

  clear() {
    this.item = -1;
    this.marks = [];
    this.finding = null;
  }

  // The calls of a finding, by positions in the trace.
  mark(run, positions, finding) {
    const events = positions.map((position) => run.eventAt(position)).filter((event) => event >= 0);
    const marks = events.map((event) => ({ event, item: run.itemAt[event] }));
    this.marks = marks.filter((mark) => mark.item >= 0).sort((one, other) => one.event - other.event);
    this.finding = finding;
  }

  isMarked(item) { return this.marks.some((mark) => mark.item === item); }

  // The marked call before or after the selected one, round in a circle.
  marked(run, step) {
    if (!this.marks.length) return -1;
    const here = this.item < 0 ? -1 : run.begins[this.item];
    const items = [...new Set(this.marks.map((mark) => mark.item))].sort((a, b) => a - b);
    const others = step > 0 ? items.filter((item) => run.begins[item] > here) : items.filter((item) => run.begins[item] < here);
    return step > 0 ? others[0] ?? items[0] : others.at(-1) ?? items.at(-1);
  }

  // Where this key leads; -1 for nowhere, null when it is no such key.
  moved(key, run, rows) {
    const steps = {
      ArrowLeft: () => rows.beside(this.item, -1),
      ArrowRight: () => rows.beside(this.item, 1),
      ArrowUp: () => rows.across(this.item, -1),
      ArrowDown: () => rows.across(this.item, 1),
      Enter: () => run.firstInside(this.item),
      Escape: () => run.parents[this.item],
      Home: () => 0,
      End: () => run.count - 1,
      n: () => this.marked(run, 1),
      p: () => this.marked(run, -1),
    };
    if (!Object.hasOwn(steps, key)) return null;
    if (this.item < 0 && key !== "n" && key !== "p") return key === "Escape" || !run.count ? -1 : 0;
    return steps[key]();
  }
}
