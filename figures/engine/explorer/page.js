"use strict";

// ---------------------------------------------------------------------------------------------------------- settings

const SETTINGS = {
  gain: { part: "quadratic", name: "gain", low: 0.01, high: 1.9, value: 0.1 },
  momentum: { part: "quadratic", name: "momentum (none, EMA)", low: 0, high: 0.95, value: 0 },
  average: { part: "quadratic", name: "average", options: ["none", "ema", "tail", "two points"], value: "ema" },
  beta: { part: "quadratic", name: "decay of the EMA", low: 0, high: 0.99, value: 0.9 },
  points: { part: "quadratic", name: "points, or steps between two", low: 1, high: 100, whole: true, value: 20 },
  spectrum: { part: "schedule", name: "spectrum", options: ["1/i, sixty modes", "steep power law", "two scales", "own"], value: "1/i, sixty modes" },
  own: { part: "schedule", name: "own curvatures", text: true, value: "1 0.3 0.1 0.03 0.01" },
  shape: { part: "schedule", name: "schedule", options: ["constant", "linear", "cosine", "plateau and decay", "drawn"], value: "linear" },
  peak: { part: "schedule", name: "largest rate", low: 0.02, high: 1.9, value: 0.5 },
  batch: { part: "schedule", name: "batch size", low: 1, high: 256, whole: true, log: true, value: 8 },
  c: { part: "uv", name: "c, rate times sharpness", low: 0.1, high: 5, value: 2.3 },
  width: { part: "uv", name: "width", low: 2, high: 1024, whole: true, log: true, value: 64 },
  target: { part: "uv", name: "target", low: 0, high: 3, value: 0 },
  rate: { part: "breakeven", name: "learning rate", low: 0.001, high: 1, log: true, value: 0.1 },
  size: { part: "breakeven", name: "batch size", low: 1, high: 1024, whole: true, log: true, value: 32 },
  alignment: { part: "breakeven", name: "noise variance over curvature", low: 0.001, high: 1, log: true, value: 0.05 },
  path: { part: "breakeven", name: "curvature times distance", low: 0.1, high: 10, log: true, value: 1 },
  edgeRate: { part: "endgap", name: "learning rate", low: 0.02, high: 0.2, value: 0.1 },
  excess: { part: "endgap", name: "excess at the start", low: 0.05, high: 1, value: 0.3 },
};
const POINTS = 41, STEPS = 400, EXAMPLES = 1024;
const state = Object.fromEntries(Object.entries(SETTINGS).map(([key, one]) => [key, one.value]));
let drawn = Array.from({ length: POINTS }, (_, i) => 1 - i / (POINTS - 1));

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const [key, one] of Object.entries(SETTINGS)) {
    if (!given.has(key)) continue;
    const text = given.get(key);
    if (one.options) state[key] = one.options.includes(text) ? text : one.value;
    else if (one.text) state[key] = text;
    else if (Number.isFinite(+text)) state[key] = Math.min(one.high, Math.max(one.low, one.whole ? Math.round(+text) : +text));
  }
  const line = (given.get("drawn") || "").split("-").map(Number);
  if (line.length === POINTS && line.every((v) => v >= 0 && v <= 100)) drawn = line.map((v) => v / 100);
}

function writeAddress() {
  const said = new URLSearchParams();
  for (const [key, one] of Object.entries(SETTINGS)) if (state[key] !== one.value) said.set(key, state[key]);
  if (state.shape === "drawn") said.set("drawn", drawn.map((v) => Math.round(100 * v)).join("-"));
  history.replaceState(null, "", said.size ? `#${said}` : location.pathname + location.search);
}

function shown(value) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "none";
  return value && Math.abs(value) < 1e-3 ? value.toExponential().length < 7 ? value.toExponential() : value.toExponential(2) : String(+value.toPrecision(4));
}
const scaled = (one, value) => (one.log ? Math.log(value / one.low) / Math.log(one.high / one.low) : (value - one.low) / (one.high - one.low));

function unscaled(one, place) {
  const value = one.log ? one.low * (one.high / one.low) ** place : one.low + place * (one.high - one.low);
  return one.whole ? Math.round(value) : +value.toPrecision(4);
}

function makeControls() {
  for (const [key, one] of Object.entries(SETTINGS)) {
    const label = document.createElement("label");
    label.append(one.name);
    let input;
    if (one.options) {
      input = document.createElement("select");
      for (const option of one.options) input.append(new Option(option, option));
    } else {
      input = document.createElement("input");
      input.type = one.text ? "text" : "range";
      if (!one.text) Object.assign(input, { min: 0, max: 1, step: 0.001 });
    }
    input.id = key;
    const output = document.createElement("output");
    output.htmlFor = key;
    label.append(output, input);
    document.querySelector(`[data-part=${one.part}]`).append(label);
    input.addEventListener("input", () => {
      state[key] = one.options || one.text ? input.value : unscaled(one, +input.value);
      show();
    });
  }
}

function showControls() {
  for (const [key, one] of Object.entries(SETTINGS)) {
    const input = document.getElementById(key);
    if (document.activeElement !== input || !one.text) input.value = one.options || one.text ? state[key] : scaled(one, state[key]);
    if (!one.options && !one.text) input.previousSibling.value = shown(state[key]);
    if (input.type === "range") input.setAttribute("aria-valuetext", shown(state[key]));
  }
}

// -------------------------------------------------------------------------------------------------------------- plots

const SVG = "http://www.w3.org/2000/svg", WIDE = 480, HIGH = 300, LEFT = 52, BOTTOM = 36, TOP = 12, RIGHT = 10;

function element(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

function ticks(low, high, log) {
  if (log) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9), every = Math.ceil((last - first + 1) / 6) || 1;
    const found = [];
    for (let k = first; k <= last; k += every) found.push(10 ** k);
    return found.length > 1 ? found : [low, high];
  }
  const rough = (high - low) / 4 || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9 * step; v += step) found.push(Math.abs(v) < 1e-12 * step ? 0 : v);
  return found;
}

// Axes of a picture; returns where numbers are.
function axes(svg, x, y, logX, logY, labelX, labelY) {
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
  const place = (v, [low, high], log) => (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low));
  const atX = (v) => LEFT + place(v, x, logX) * (WIDE - LEFT - RIGHT), atY = (v) => HIGH - BOTTOM - place(v, y, logY) * (HIGH - BOTTOM - TOP);
  element(svg, "rect", { x: LEFT, y: TOP, width: WIDE - LEFT - RIGHT, height: HIGH - TOP - BOTTOM, class: "axis" });
  for (const v of ticks(...x, logX)) element(svg, "text", { x: atX(v), y: HIGH - BOTTOM + 14, "text-anchor": "middle" }, shown(v));
  for (const v of ticks(...y, logY)) element(svg, "text", { x: LEFT - 5, y: atY(v) + 4, "text-anchor": "end" }, shown(v));
  element(svg, "text", { x: (LEFT + WIDE) / 2, y: HIGH - 5, "text-anchor": "middle" }, labelX);
  element(svg, "text", { transform: `translate(12 ${(HIGH - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, labelY);
  return { atX, atY };
}

function line(svg, { atX, atY }, xs, ys, color, dash) {
  const parts = xs.map((x, i) => [atX(x), atY(ys[i])]).filter((p) => p.every(Number.isFinite));
  const points = parts.map(([a, b]) => `${a.toFixed(1)},${Math.min(HIGH, Math.max(-HIGH, b)).toFixed(1)}`).join(" ");
  element(svg, "polyline", { points, fill: "none", stroke: `var(--${color})`, "stroke-width": 2, "stroke-dasharray": dash || "none" });
}

const range = (count, first = 0) => Array.from({ length: count }, (_, i) => first + i);

function span(values, log) {
  const finite = values.filter((v) => Number.isFinite(v) && (!log || v > 0));
  const low = Math.min(...finite), high = Math.max(...finite);
  return log ? [low / 1.3, high * 1.3] : [Math.min(0, low), high * 1.08 || 1];
}

// -------------------------------------------------------------------------------------------------------------- parts

function showQuadratic() {
  const { gain, momentum, average, beta, points } = state;
  const variance = {
    none: () => formulas.stationary_variance(gain, momentum),
    ema: () => formulas.ema_variance(gain, beta, momentum),
    tail: () => formulas.tail_variance(gain, points, 1),
    "two points": () => formulas.two_point_variance(gain, points),
  }[average]();
  document.getElementById("quadratic-answer").textContent =
    `Variance ${shown(variance)} of the batch minima: worth a run at gain ${shown(formulas.equivalent_gain(variance))}, ` +
    `${shown((100 * formulas.equivalent_gain(variance)) / gain)}% of the gain.`;
  const steps = 200;
  const weights = { none: () => tailWeights(steps, 1, 1), ema: () => emaWeights(beta, steps), tail: () => tailWeights(steps, points, 1), "two points": () => tailWeights(steps, 2, points) }[average]();
  const gains = averageGains(weights, gain);
  const svg = document.getElementById("quadratic-plot");
  const on = axes(svg, [0, steps], span([...gains, gain]), false, false, "step of a run of 200", "gain of the equal schedule");
  line(svg, on, range(steps, 1), gains, "blue");
  line(svg, on, [1, steps], [gain, gain], "quiet", "4 4");
}

function modelOf() {
  const powers = (count, exponent) => range(count, 1).map((i) => i ** -exponent);
  const own = state.own.split(/[\s,;]+/).map(Number).filter((h) => h > 0 && Number.isFinite(h));
  const curvature = { "1/i, sixty modes": () => powers(60, 1), "steep power law": () => powers(60, 2), "two scales": () => [1, 0.01], own: () => (own.length ? own : [1]) }[state.spectrum]();
  return { curvature, centerVariance: curvature.map((h) => 1 / h), displacement: curvature.map(() => 1), batchSize: state.batch };
}

function ratesOf() {
  const done = range(STEPS, 1).map((t) => t / STEPS);
  return done.map((u) => state.peak * { constant: () => 1, linear: () => 1 - u, cosine: () => Math.cos((Math.PI / 2) * u) ** 2, "plateau and decay": () => Math.min(1, 5 * (1 - u)), drawn: () => atPoint(u) }[state.shape]());
}

function atPoint(u) {
  const place = u * (POINTS - 1), i = Math.min(POINTS - 2, Math.floor(place));
  return drawn[i] + (place - i) * (drawn[i + 1] - drawn[i]);
}

let cursor = 0;

function showSchedule() {
  const model = modelOf(), rates = ratesOf(), risk = scheduleRisk(model, rates);
  const edge = 2 / Math.max(...model.curvature);
  document.getElementById("schedule-answer").textContent =
    `Excess risk at the end ${shown(risk[STEPS - 1])}` + (Math.max(...rates) >= edge ? `; rates beyond ${shown(edge)} are unstable.` : ".");
  const left = document.getElementById("schedule-plot");
  const on = axes(left, [0, STEPS], [0, state.peak * 1.05], false, false, "step", "learning rate");
  line(left, on, range(STEPS, 1), rates, "blue");
  if (document.activeElement === left) {
    const u = cursor / (POINTS - 1);
    element(left, "circle", { cx: on.atX(u * STEPS), cy: on.atY(state.peak * (state.shape === "drawn" ? drawn[cursor] : rates[Math.max(0, Math.round(u * STEPS) - 1)] / state.peak)), r: 5, fill: "var(--red)" });
  }
  const right = document.getElementById("risk-plot");
  const start = 0.5 * model.curvature.reduce((sum, h) => sum + h, 0), all = [start, ...risk];
  const there = axes(right, [0, STEPS], span(all, true), false, true, "step", "expected excess risk");
  line(right, there, range(STEPS + 1), all, "red");
}

function draw(index, height) {
  if (state.shape !== "drawn") {
    const rates = ratesOf();
    drawn = drawn.map((_, i) => rates[Math.max(0, Math.round((i / (POINTS - 1)) * STEPS) - 1)] / state.peak);
    state.shape = "drawn";
  }
  drawn[index] = Math.min(1, Math.max(0, height));
}

function listenToSchedule() {
  const svg = document.getElementById("schedule-plot");
  let last = null;
  const at = (event) => {
    const box = svg.getBoundingClientRect(), scale = Math.min(box.width / WIDE, box.height / HIGH);
    const x = (event.clientX - box.left - (box.width - WIDE * scale) / 2) / scale, y = (event.clientY - box.top - (box.height - HIGH * scale) / 2) / scale;
    const index = Math.round(((x - LEFT) / (WIDE - LEFT - RIGHT)) * (POINTS - 1));
    return [Math.min(POINTS - 1, Math.max(0, index)), 1.05 * (1 - (y - TOP) / (HIGH - TOP - BOTTOM))];
  };
  const move = (event) => {
    const [index, height] = at(event), from = last ? last[0] : index;
    for (let i = Math.min(from, index); i <= Math.max(from, index); i++) draw(i, height);
    last = [index, height];
    show();
  };
  svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); last = null; move(event); });
  svg.addEventListener("pointermove", (event) => { if (event.buttons) move(event); });
  svg.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 0.05], ArrowDown: [0, -0.05] }[event.key];
    if (!by) return;
    event.preventDefault();
    cursor = Math.min(POINTS - 1, Math.max(0, cursor + by[0]));
    if (by[1]) { draw(cursor, drawn[cursor]); draw(cursor, drawn[cursor] + by[1]); }
    show();
  });
  svg.addEventListener("focus", show);
  svg.addEventListener("blur", show);
}

const CELLS = [48, 20], COLORS = ["#0072b2", "#56b4e9", "#e69f00", "#4d4d4d"];

function uvRun(c, width, target, steps) {
  const start = uvStart(width, target);
  return uvOrbit(start.output, start.kernel, c / start.sharpness, start.kappa, target, steps);
}

function showUv() {
  const { c, width, target } = state, ranges = [[0.1, 5], [2, 1024]];
  const diagram = document.getElementById("uv-diagram");
  const on = axes(diagram, ...ranges, false, true, "c = learning rate × sharpness at the start", "width");
  const across = (WIDE - LEFT - RIGHT) / CELLS[0], up = (HIGH - TOP - BOTTOM) / CELLS[1];
  for (let i = 0; i < CELLS[0]; i++) {
    const there = 0.1 + ((i + 0.5) / CELLS[0]) * 4.9;
    let from = 0, before = -1;
    for (let j = 0; j <= CELLS[1]; j++) {
      const found = j < CELLS[1] ? uvOutcome(uvRun(there, Math.round(2 * 512 ** ((j + 0.5) / CELLS[1])), target, 200)) : -1;
      if (found !== before && before >= 0) element(diagram, "rect", { x: LEFT + i * across, y: HIGH - BOTTOM - j * up, width: across + 0.6, height: (j - from) * up + 0.3, fill: COLORS[before] });
      if (found !== before) [from, before] = [j, found];
    }
  }
  element(diagram, "circle", { cx: on.atX(c), cy: on.atY(width), r: 5, fill: "none", stroke: "#fff", "stroke-width": 4 });
  element(diagram, "circle", { cx: on.atX(c), cy: on.atY(width), r: 5, fill: "none", stroke: "#000", "stroke-width": 1.5 });
  const steps = 40, orbit = uvRun(c, width, target, steps), long = uvRun(c, width, target, 200), start = uvStart(width, target);
  const rho = (start.kappa * start.output ** 2) / start.kernel ** 2;
  const wall = target ? "" : `; at this width the loss rises from c = ${shown(formulas.c_loss_hessian(rho))} on, and runs diverge from ${shown(formulas.c_max_hessian(rho))} on`;
  document.getElementById("uv-answer").textContent = `In 200 steps: ${OUTCOMES[uvOutcome(long)]}${wall}.`;
  const svg = document.getElementById("uv-plot"), gains = orbit.sharpness.map((s) => (s * c) / start.sharpness);
  const losses = orbit.loss.map((value) => Math.max(value / orbit.loss[0], 1e-12));
  const there = axes(svg, [0, steps], [Math.max(1e-12, Math.min(1e-3, ...losses)), Math.max(10, ...losses.filter((v) => v < 1e6), 1)], false, true, "step", "loss over start; gain (red)");
  line(svg, there, range(steps + 1), losses, "blue");
  line(svg, there, range(steps + 1), gains, "red");
  line(svg, there, [0, steps], [2, 2], "quiet", "4 4");
}

function listenToDiagram() {
  const svg = document.getElementById("uv-diagram");
  svg.addEventListener("pointerdown", (event) => {
    const box = svg.getBoundingClientRect(), scale = Math.min(box.width / WIDE, box.height / HIGH);
    const x = (event.clientX - box.left - (box.width - WIDE * scale) / 2) / scale, y = (event.clientY - box.top - (box.height - HIGH * scale) / 2) / scale;
    state.c = unscaled({ low: 0.1, high: 5 }, Math.min(1, Math.max(0, (x - LEFT) / (WIDE - LEFT - RIGHT))));
    state.width = unscaled({ low: 2, high: 1024, log: true, whole: true }, Math.min(1, Math.max(0, 1 - (y - TOP) / (HIGH - TOP - BOTTOM))));
    show();
  });
}

function showBreakEven() {
  const { rate, size, alignment, path } = state, at = (eta, batch) => formulas.break_even_curvature(eta, batch, EXAMPLES, alignment, path);
  document.getElementById("breakeven-answer").textContent =
    `Breaks even at curvature ${shown(at(rate, size))} with batches of ${size} of ${EXAMPLES}; full batches would hold ${shown(2 / rate)}.`;
  const rates = range(61).map((i) => 0.001 * 1000 ** (i / 60)), curves = [1, size, EXAMPLES].map((batch) => rates.map((eta) => at(eta, batch)));
  const svg = document.getElementById("breakeven-plot");
  const on = axes(svg, [0.001, 1], span(curves.flat(), true), true, true, "learning rate (dotted: batches of 1, and all examples)", "break-even curvature");
  line(svg, on, rates, curves[0], "green", "2 4");
  line(svg, on, rates, curves[2], "orange", "2 4");
  line(svg, on, rates, curves[1], "blue");
  element(svg, "circle", { cx: on.atX(rate), cy: on.atY(at(rate, size)), r: 5, fill: "var(--red)" });
}

// Gradient descent on log cosh(xy) from a start of a given excess of the gain over 2; the sharpness of the minimum below.
function logCoshRun(rate, excess, steps) {
  let y = Math.sqrt((2 + excess) / rate), x = 1e-3 * y;
  const sharpness = [];
  for (let t = 0; t <= steps; t++) {
    sharpness.push(y * y);
    const slope = Math.tanh(x * y);
    [x, y] = [x - rate * y * slope, y - rate * x * slope];
  }
  return sharpness;
}

function showEndGap() {
  const { edgeRate, excess } = state, steps = Math.round(8 / edgeRate ** 2);
  const run = logCoshRun(edgeRate, excess, steps), gap = formulas.end_gap(edgeRate, formulas.gap_drift_log_cosh(edgeRate));
  document.getElementById("endgap-answer").textContent =
    `This run ends ${shown(2 / edgeRate - run[steps])} below the edge ${shown(2 / edgeRate)}; the law says ${shown(gap)}, for starts well above it.`;
  const svg = document.getElementById("endgap-plot"), values = run.filter((_, i) => i % Math.ceil(steps / 400) === 0);
  const on = axes(svg, [0, steps], [Math.min(...run, 2 / edgeRate - 2 * gap) - 0.2, Math.max(...run) + 0.2], false, false, "step", "y², sharpness at the minimum");
  line(svg, on, values.map((_, i) => i * Math.ceil(steps / 400)), values, "blue");
  line(svg, on, [0, steps], [2 / edgeRate, 2 / edgeRate], "quiet", "4 4");
  line(svg, on, [0, steps], [2 / edgeRate - gap, 2 / edgeRate - gap], "red", "2 4");
}

// --------------------------------------------------------------------------------------------------------------- page

const PARTS = { quadratic: showQuadratic, schedule: showSchedule, uv: showUv, breakeven: showBreakEven, endgap: showEndGap };
const seen = {};

// Only parts whose settings have changed are drawn anew.
function show() {
  for (const [part, showPart] of Object.entries(PARTS)) {
    const mine = JSON.stringify([...Object.keys(SETTINGS).filter((key) => SETTINGS[key].part === part).map((key) => state[key]), part === "schedule" && [drawn, cursor, document.activeElement.id === "schedule-plot"]]);
    if (seen[part] !== mine) showPart();
    seen[part] = mine;
  }
  showControls();
  writeAddress();
}

const sections = new Set([...document.querySelectorAll("section")].map((section) => `#${section.id}`));
if (!sections.has(location.hash)) readAddress();
makeControls();
document.getElementById("uv-legend").append(...OUTCOMES.map((name, i) => {
  const item = document.createElement("span");
  item.innerHTML = `<span class="swatch" style="background:${COLORS[i]}"></span> ${name}`;
  return item;
}));
listenToSchedule();
listenToDiagram();
for (const link of document.querySelectorAll("nav a")) {
  link.addEventListener("click", (event) => { event.preventDefault(); document.querySelector(link.getAttribute("href")).scrollIntoView(); });
}
show();
