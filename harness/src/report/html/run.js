// A run, decoded from its columns: what each item is, what it is nested in, and the row on which it is drawn.

class Run {
  constructor(data) {
    this.name = data.name;
    this.groups = data.groups;
    this.lanes = data.lanes;
    this.names = data.names;
    this.texts = data.texts;
    this.positions = sums(data.positions);
    this.begins = sums(data.begins);
    this.count = this.begins.length;
    this.length = this.positions.length;
    this.lane = Int32Array.from(data.lane);
    this.nameOf = Int32Array.from(data.name_of);
    this.argumentsOf = data.arguments;
    this.resultsOf = data.results;
    this.lengths = Int32Array.from(data.lengths);
    // Where it ends on the axis; what never does lasts to the end of the run.
    this.ends = this.begins.map((begin, item) => this.lengths[item] < 0 ? this.length - 1 : begin + this.lengths[item]);
    this.itemAt = new Int32Array(this.length).fill(-1);
    for (let item = 0; item < this.count; item++) {
      this.itemAt[this.begins[item]] = item;
      if (this.lengths[item] > 0) this.itemAt[this.ends[item]] = item;
    }
    this.parents = this.nested();
  }

  // For each item the call on its thread that is open when it begins, or -1.
  nested() {
    const parents = new Int32Array(this.count).fill(-1);
    const open = new Map();
    for (let item = 0; item < this.count; item++) {
      const thread = this.lanes[this.lane[item]][2];
      if (!thread) continue;
      if (!open.has(thread)) open.set(thread, []);
      const stack = open.get(thread);
      while (stack.length && this.ends[stack.at(-1)] < this.begins[item]) stack.pop();
      if (stack.length) parents[item] = stack.at(-1);
      if (this.lengths[item] !== 0) stack.push(item);
    }
    return parents;
  }

  neverReturned(item) { return this.lengths[item] < 0; }
  isMoment(item) { return this.lengths[item] === 0; }
  title(item) { return this.names[this.nameOf[item]][0]; }
  family(item) { return this.names[this.nameOf[item]][1]; }
  arguments(item) { return this.texts[this.argumentsOf[item]]; }
  result(item) { return this.texts[this.resultsOf[item]]; }
  // A description that is NULL is no failure; a handle is.
  failed(item) { return this.result(item).startsWith("= -1") || (this.result(item) === "= NULL" && this.title(item) === "open"); }

  place(item) {
    const [group, label] = this.lanes[this.lane[item]];
    return label ? `${this.groups[group]}, ${label}` : this.groups[group];
  }

  // In one line, as the tree of calls has it.
  line(item) {
    const never = this.neverReturned(item) ? "… never returned" : "";
    return [this.title(item), this.arguments(item), this.result(item), never].filter(Boolean).join(" ");
  }

  // Positions in the trace of its first and last event.
  span(item) {
    const first = this.positions[this.begins[item]];
    return this.lengths[item] > 0 ? [first, this.positions[this.ends[item]]] : [first];
  }

  // Where on the axis the event at this position of the trace is, or -1.
  eventAt(position) {
    const event = lowerBound(this.length, (index) => this.positions[index] >= position);
    return this.positions[event] === position ? event : -1;
  }

  firstInside(item) {
    for (let next = item + 1; next < this.count && this.begins[next] <= this.ends[item]; next++) {
      if (this.parents[next] === item) return next;
    }
    return -1;
  }
}

// The rows of a run, from top to bottom. A lane has as many as its calls are deep.
class Rows {
  constructor(run, byThread) {
    this.run = run;
    this.rowOf = new Int32Array(run.count);
    const [laneOf, lanes] = byThread ? threadLanes(run) : layerLanes(run);
    const depths = new Int32Array(run.count);
    const free = lanes.map(() => []);
    for (let item = 0; item < run.count; item++) {
      const lane = laneOf[item];
      depths[item] = run.lanes[run.lane[item]][2] ? depth(run, laneOf, depths, item) : pack(free[lane], run, item);
      lanes[lane].depth = Math.max(lanes[lane].depth, depths[item] + 1);
    }
    let row = 0;
    for (const lane of lanes) {
      lane.first = row;
      row += lane.depth;
    }
    this.lanes = lanes;
    this.items = Array.from({ length: row }, () => []);
    for (let item = 0; item < run.count; item++) {
      this.rowOf[item] = lanes[laneOf[item]].first + depths[item];
      this.items[this.rowOf[item]].push(item);
    }
    this.laneOf = laneOf;
  }

  // The item that covers this event on this row, or -1.
  at(row, event) {
    const items = this.items[row] ?? [];
    const after = lowerBound(items.length, (index) => this.run.begins[items[index]] > event);
    const item = items[after - 1];
    return item !== undefined && this.run.ends[item] >= event ? item : -1;
  }

  // The item before or after this one in its lane.
  beside(item, step) {
    for (let next = item + step; next >= 0 && next < this.run.count; next += step) {
      if (this.laneOf[next] === this.laneOf[item]) return next;
    }
    return -1;
  }

  // The item nearest to this one in the next lane, up or down, that has any.
  across(item, step) {
    for (let lane = this.laneOf[item] + step; lane >= 0 && lane < this.lanes.length; lane += step) {
      const items = this.items[this.lanes[lane].first];
      const begins = this.run.begins;
      const after = lowerBound(items.length, (index) => begins[items[index]] >= begins[item]);
      const near = [items[after - 1], items[after]].filter((one) => one !== undefined);
      if (near.length) return near.reduce((one, other) => distance(begins, one, item) <= distance(begins, other, item) ? one : other);
    }
    return -1;
  }
}

function distance(begins, one, other) { return Math.abs(begins[one] - begins[other]); }

// Groups with so many lanes, such as clients that come and go by the hundred, share lanes: each takes the first whose last
// is over.
const MOST_LANES = 12;

function layerLanes(run) {
  const lanes = [];
  const crowded = crowds(run);
  const moved = run.lanes.map(([group, label], lane) => {
    const crowd = crowded.get(lane);
    const known = crowd ? lanes.findIndex((one) => one.group === crowd.name && one.over < crowd.begin) : -1;
    if (known >= 0) lanes[known].over = crowd.end;
    else if (crowd) lanes.push({ group: crowd.name, label: "", depth: 1, over: crowd.end });
    else lanes.push({ group: run.groups[group], label, depth: 1 });
    return known >= 0 ? known : lanes.length - 1;
  });
  return [run.lane.map((lane) => moved[lane]), lanes];
}

// Of each lane that has too many beside it: what they are called together, and from when to when it is in use.
function crowds(run) {
  const nameOf = (lane) => run.groups[run.lanes[lane][0]].replace(/ \d+$/, "s");
  const sizes = new Map();
  run.lanes.forEach((_, lane) => sizes.set(nameOf(lane), (sizes.get(nameOf(lane)) ?? 0) + 1));
  const crowded = new Map();
  for (let item = 0; item < run.count; item++) {
    const lane = run.lane[item], name = nameOf(lane);
    if (sizes.get(name) <= MOST_LANES || !/^(clients|appctxs)$/.test(name)) continue;
    const crowd = crowded.get(lane) ?? { name, begin: run.begins[item], end: 0 };
    crowd.end = Math.max(crowd.end, run.ends[item]);
    crowded.set(lane, crowd);
  }
  return crowded;
}

// Each thread is a lane; what nests on none keeps the lane that it has.
function threadLanes(run) {
  const threads = [...new Set(run.lanes.map((lane) => lane[2]).filter(Boolean))].sort((a, b) => a - b);
  const others = run.lanes.map((lane, index) => [lane, index]).filter(([lane]) => !lane[2]);
  const lanes = others.map(([[group, label]]) => ({ group: run.groups[group], label, depth: 1 }));
  lanes.push(...threads.map((thread) => ({ group: `thread ${thread}`, label: "", depth: 1 })));
  const moved = run.lanes.map((lane, index) =>
    lane[2] ? others.length + threads.indexOf(lane[2]) : others.findIndex(([, old]) => old === index));
  return [run.lane.map((lane) => moved[lane]), lanes];
}

// One more than the nearest call around it that is in the same lane.
function depth(run, laneOf, depths, item) {
  let around = run.parents[item];
  while (around >= 0 && laneOf[around] !== laneOf[item]) around = run.parents[around];
  return around < 0 ? 0 : depths[around] + 1;
}

// Requests of one client overlap: each takes the first row that is free.
function pack(free, run, item) {
  let row = free.findIndex((end) => end < run.begins[item]);
  if (row < 0) row = free.length;
  free[row] = run.ends[item];
  return row;
}

function sums(differences) {
  const all = new Int32Array(differences.length);
  let sum = 0;
  for (let index = 0; index < all.length; index++) all[index] = sum += differences[index];
  return all;
}

// The first index below `count` for which this is true, which it then is for all behind; `count` if there is none.
function lowerBound(count, isBehind) {
  let low = 0, high = count;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBehind(middle)) high = middle; else low = middle + 1;
  }
  return low;
}
