// Draws what is in sight. However long the run is, a row costs at most one item a pixel.

const FAMILIES = ["life", "connection", "question", "data", "client", "ask", "note"];

// The colours of the page, as its style sheet has them now.
function palette() {
  // An element has the colour that a variable comes to, light or dark.
  const probe = document.body.appendChild(document.createElement("i"));
  const value = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const family = (name) => [name, { fill: value(`--${name}`), edge: value(`--${name}-edge`) }];
  const colours = {
    ...Object.fromEntries([...FAMILIES, "marked"].map(family)),
    text: value("--text"), soft: value("--soft"), card: value("--card"), lane: value("--lane"), accent: value("--accent"),
  };
  probe.remove();
  return colours;
}

class Drawing {
  constructor(canvas, overview) {
    this.canvas = canvas;
    this.overview = overview;
    this.context = canvas.getContext("2d");
    this.colours = palette();
  }

  recolour() {
    this.colours = palette();
    this.strip = null;
  }

  resize(width, height) {
    fitCanvas(this.canvas, width, height);
    fitCanvas(this.overview, width, 34);
    this.strip = null;
  }

  draw(view, selection) {
    const { context, colours } = this;
    begin(context);
    context.fillStyle = colours.card;
    context.fillRect(0, 0, view.width, view.height);
    this.lanes(view);
    context.save();
    context.beginPath();
    context.rect(view.gutter, 0, view.span, view.height);
    context.clip();
    context.font = "11px " + MONO;
    context.textBaseline = "middle";
    const { rows } = view;
    for (let row = 0; row < rows.items.length; row++) {
      const y = view.y(row);
      if (y > -ROW && y < view.height) this.row(view, row, y);
    }
    for (const { item, event } of selection.marks) this.marked(view, item, event);
    if (selection.item >= 0) this.selected(view, selection.item);
    context.restore();
    this.labels(view);
    this.summary(view, selection);
  }

  lanes(view) {
    const { context, colours } = this;
    for (const lane of view.rows.lanes) {
      const y = lane.top - view.top;
      context.fillStyle = colours.lane;
      context.fillRect(0, y - 2, view.width, lane.depth * ROW + 2);
    }
  }

  row(view, row, y) {
    const { run, items } = { run: view.rows.run, items: view.rows.items[row] };
    const right = view.event(view.width);
    let index = lowerBound(items.length, (at) => run.ends[items[at]] + 1 >= view.left);
    while (index < items.length && run.begins[items[index]] < right) {
      const item = items[index];
      if ((run.ends[item] - run.begins[item] + 1) * view.scale >= NARROW) {
        this.bar(view, run, item, y);
        index += 1;
      } else index = this.heap(view, run, items, index, y);
    }
  }

  // Items that are too narrow to be told apart, as one: those of one family that begin within a pixel of the last one's end.
  // Gives the index of the first that is not among them.
  heap(view, run, items, index, y) {
    const family = run.family(items[index]);
    const x = view.x(run.begins[items[index]]);
    let end = x;
    while (index < items.length && end < view.width) {
      const item = items[index];
      const begins = view.x(run.begins[item]), ends = view.x(run.ends[item] + 1);
      if (begins > end + 1 || ends - begins >= NARROW || run.family(item) !== family) break;
      end = Math.max(ends, begins + 1);
      const next = run.begins[item] + 1 / view.scale;
      index = run.ends[item] + 1 >= next ? index + 1
        : Math.max(index + 1, lowerBound(items.length, (at) => run.begins[items[at]] >= next));
    }
    this.context.fillStyle = this.colours[family].edge;
    this.context.fillRect(x, y, Math.max(1, end - x), ROW - 4);
    return index;
  }

  bar(view, run, item, y) {
    const { context } = this;
    const { fill, edge } = this.colours[run.family(item)];
    const [x, width] = extent(view, run, item);
    if (run.isMoment(item)) return diamond(context, x + width / 2, y + ROW / 2 - 1, Math.min(6, Math.max(2, width / 2)), edge);
    context.fillStyle = fill;
    context.fillRect(x, y, width, ROW - 4);
    context.fillStyle = edge;
    context.fillRect(x, y, Math.min(3, width), ROW - 4);
    if (width < 8) return;
    if (run.neverReturned(item)) torn(context, Math.min(x + width, view.width), y, this.colours.card);
    if (run.failed(item)) corner(context, Math.min(x + width, view.width), y, edge);
    this.text(view, run, item, x, y, width);
  }

  text(view, run, item, x, y, width) {
    const from = Math.max(x, view.gutter) + 7;
    const letters = Math.floor((Math.min(x + width, view.width) - from - 4) / LETTER);
    if (letters < 3) return;
    const title = run.title(item);
    const full = letters > title.length + 6 ? `${title} ${run.arguments(item)}` : title;
    this.context.fillStyle = this.colours.text;
    this.context.fillText(full.length > letters ? full.slice(0, letters - 1) + "…" : full, from, y + ROW / 2 - 1.5);
  }

  // By stripes and a flag on top, not only by colour.
  marked(view, item, event) {
    const { context, colours } = this;
    const { run } = view.rows;
    const y = view.y(view.rows.rowOf[item]);
    const [begin, width] = extent(view, run, item);
    const x = Math.max(begin, view.gutter - 4), end = Math.min(begin + Math.max(width, 4), view.width + 4);
    if (end > x) {
      context.save();
      context.beginPath();
      context.rect(x, y - 1, end - x, ROW - 2);
      context.fillStyle = colours.marked.fill;
      context.fill();
      context.clip();
      context.strokeStyle = colours.marked.edge;
      context.globalAlpha = 0.4;
      context.lineWidth = 2;
      context.beginPath();
      for (let at = x - (x - begin) % 9 - ROW; at < end; at += 9) {
        context.moveTo(at, y + ROW);
        context.lineTo(at + ROW, y);
      }
      context.stroke();
      context.restore();
      context.strokeStyle = colours.marked.edge;
      context.lineWidth = 2;
      context.strokeRect(x + 1, y, end - x - 2, ROW - 4);
      this.plate(view, run, item, begin, y, width);
    }
    flag(context, view.x(event + 0.5), y - 2, colours.marked.edge);
  }

  // The name of a marked call, on a ground without stripes.
  plate(view, run, item, x, y, width) {
    const from = Math.max(x, view.gutter) + 5;
    const wanted = Math.min(run.title(item).length * LETTER + 6, Math.min(x + width, view.width) - from - 4);
    if (wanted < 4 * LETTER) return;
    this.context.fillStyle = this.colours.marked.fill;
    this.context.fillRect(from, y + 2, wanted, ROW - 8);
    this.text(view, run, item, x, y, from - x + wanted + 4);
  }

  selected(view, item) {
    const { context, colours } = this;
    const [x, width] = extent(view, view.rows.run, item);
    context.strokeStyle = colours.text;
    context.lineWidth = 2;
    context.strokeRect(x - 2, view.y(view.rows.rowOf[item]) - 2, Math.max(width, 4) + 4, ROW);
  }

  labels(view) {
    const { context, colours } = this;
    context.fillStyle = colours.card;
    context.fillRect(0, 0, view.gutter - 6, view.height);
    let group = "";
    for (const lane of view.rows.lanes) {
      const y = lane.top - view.top;
      if (y > view.height || y + lane.depth * ROW < 0) {
        group = lane.group;
        continue;
      }
      const middle = y + ROW / 2 - 2;
      const both = lane.group !== group;
      group = lane.group;
      context.font = "600 12px " + SANS;
      context.fillStyle = colours.text;
      const room = view.gutter - 16;
      // Where there is little room, the number alone.
      const label = view.gutter < NARROW_GUTTER ? lane.label.replace(/^\w+ /, "") : lane.label;
      const taken = label ? context.measureText(label).width + 8 : 0;
      const written = both ? clipped(context, lane.group, room - taken) : "";
      context.fillText(written, 4, middle);
      context.font = "12px " + SANS;
      context.fillStyle = colours.soft;
      context.textAlign = "right";
      context.fillText(label, view.gutter - 12, middle);
      context.textAlign = "left";
    }
  }

  // The whole run in a strip, with what is in sight framed.
  summary(view, selection) {
    const context = this.overview.getContext("2d");
    const whole = Object.assign(new View(), { width: view.width, gutter: view.gutter, rows: view.rows, left: 0 });
    whole.scale = whole.span / view.rows.run.length;
    if (!this.strip) this.strip = this.stripOf(whole);
    begin(context);
    context.clearRect(0, 0, view.width, 34);
    context.drawImage(this.strip, 0, 0, view.width, 34);
    for (const { event } of selection.marks) flag(context, whole.x(event + 0.5), 8, this.colours.marked.edge);
    const from = whole.x(view.left), width = Math.max(4, view.span / view.scale * whole.scale);
    context.strokeStyle = this.colours.accent;
    context.lineWidth = 2;
    context.strokeRect(from + 1, 1, width - 2, 32);
  }

  stripOf(whole) {
    const strip = document.createElement("canvas");
    fitCanvas(strip, whole.width, 34);
    const context = strip.getContext("2d");
    begin(context);
    context.fillStyle = this.colours.lane;
    context.fillRect(whole.gutter, 0, whole.span, 34);
    const { run, items } = whole.rows;
    const height = Math.max(1, Math.min(4, 22 / items.length));
    items.forEach((row, number) => {
      const y = 9 + (number * 22) / items.length;
      for (let index = 0; index < row.length;) {
        const [x, width] = extent(whole, run, row[index]);
        context.fillStyle = this.colours[run.family(row[index])].edge;
        context.fillRect(x, y, width, height);
        const next = Math.max(run.ends[row[index]], run.begins[row[index]] + 1 / whole.scale);
        index = Math.max(index + 1, lowerBound(row.length, (at) => run.begins[row[at]] >= next));
      }
    });
    return strip;
  }
}

const MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const SANS = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif";
const LETTER = 6.7;
const NARROW_GUTTER = 140;
// Pixels below which a bar shows nothing but that it is there.
const NARROW = 3;

function extent(view, run, item) {
  const x = view.x(run.begins[item]);
  return [x, Math.max(1, (run.ends[item] - run.begins[item] + 1) * view.scale - (view.scale > 3 ? 1 : 0))];
}

// In pixels of the page, however fine those of the screen are.
function begin(context) {
  const fine = devicePixelRatio || 1;
  context.setTransform(fine, 0, 0, fine, 0, 0);
}

function fitCanvas(canvas, width, height) {
  const fine = devicePixelRatio || 1;
  canvas.width = Math.round(width * fine);
  canvas.height = Math.round(height * fine);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
}

function shape(context, points, colour) {
  context.fillStyle = colour;
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
}

function diamond(context, x, y, size, colour) {
  shape(context, [[x, y - size], [x + size, y], [x, y + size], [x - size, y]], colour);
}

function flag(context, x, y, colour) {
  shape(context, [[x - 5, y - 6], [x + 5, y - 6], [x, y + 2]], colour);
}

function corner(context, x, y, colour) {
  shape(context, [[x - 7, y], [x, y], [x, y + 7]], colour);
}

// The open end of a call that never returned.
function torn(context, x, y, ground) {
  for (let step = 0; step < 3; step++) shape(context, [[x, y + step * 6], [x - 5, y + step * 6 + 3], [x, y + step * 6 + 6]], ground);
}

function clipped(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  let end = text.length;
  while (end > 1 && context.measureText(text.slice(0, end) + "…").width > room) end--;
  return text.slice(0, end) + "…";
}
