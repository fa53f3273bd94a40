// What part of the run is on the canvas: from which event, how wide an event is, and how far down.

const ROW = 22;
const LANE_GAP = 8;
const WIDEST_EVENT = 64;

class View {
  constructor() {
    this.left = 0;
    this.scale = 1;
    this.top = 0;
  }

  // The size of the canvas, and the run that it shows.
  set(width, height, gutter, rows) {
    Object.assign(this, { width, height, gutter, rows });
    this.tops = [];
    let y = LANE_GAP;
    for (const lane of rows.lanes) {
      lane.top = y;
      for (let row = 0; row < lane.depth; row++, y += ROW) this.tops.push(y);
      y += LANE_GAP;
    }
    this.full = y;
    this.clamp();
  }

  get span() { return Math.max(1, this.width - this.gutter); }
  get smallest() { return Math.min(WIDEST_EVENT, this.span / this.rows.run.length); }

  clamp() {
    this.scale = Math.min(WIDEST_EVENT, Math.max(this.smallest, this.scale));
    const room = this.rows.run.length - this.span / this.scale;
    this.left = Math.min(Math.max(0, room), Math.max(0, this.left));
    this.top = Math.min(Math.max(0, this.full - this.height), Math.max(0, this.top));
  }

  x(event) { return this.gutter + (event - this.left) * this.scale; }
  event(x) { return this.left + (x - this.gutter) / this.scale; }
  y(row) { return this.tops[row] - this.top; }

  rowAt(y) {
    const row = lowerBound(this.tops.length, (index) => this.tops[index] > y + this.top) - 1;
    return row >= 0 && y + this.top < this.tops[row] + ROW ? row : -1;
  }

  whole() {
    this.left = 0;
    this.scale = 0;
    this.clamp();
  }

  zoom(factor, x) {
    const event = this.event(x);
    this.scale *= factor;
    this.scale = Math.min(WIDEST_EVENT, Math.max(this.smallest, this.scale));
    this.left = event - (x - this.gutter) / this.scale;
    this.clamp();
  }

  move(pixels, down) {
    this.left += pixels / this.scale;
    this.top += down;
    this.clamp();
  }

  // Shows these events, and some on both sides.
  range(first, last) {
    const margin = Math.max(6, (last - first) * 0.15);
    this.scale = Math.min(28, this.span / (last - first + 1 + 2 * margin));
    this.clamp();
    this.left = (first + last + 1) / 2 - this.span / this.scale / 2;
    this.clamp();
  }

  // Brings an item into sight, and as little else as that takes.
  reveal(item) {
    const { run } = this.rows;
    const first = run.begins[item], last = Math.min(run.ends[item] + 1, first + (this.span * 0.8) / this.scale);
    if (last > this.event(this.width)) this.left = last - (this.span * 0.85) / this.scale;
    if (first < this.left) this.left = first - (this.span * 0.15) / this.scale;
    const y = this.tops[this.rows.rowOf[item]];
    if (y < this.top) this.top = y - LANE_GAP;
    if (y + ROW > this.top + this.height) this.top = y + ROW + LANE_GAP - this.height;
    this.clamp();
  }
}
