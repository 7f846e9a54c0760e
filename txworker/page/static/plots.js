// Small plots by uPlot, which draws on a canvas with the colours of the style sheet.
import { dayTime } from "./common.js";
import uPlot from "./vendor/uPlot.js";

const every = new Set();
const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export class Plot {
  #place;
  #format;
  #ink;
  #bars;
  #steps;
  #least; // the top of the axis is no lower
  #plot = null;
  #data = [[], []];

  // place: an element; format(value): the words for a value; ink: the colour's variable.
  constructor(place, format, { ink = "--accent", bars = false, steps = undefined, least = 0 } = {}) {
    this.#least = least;
    this.#steps = steps;
    this.#place = place;
    this.#format = format;
    this.#ink = ink;
    this.#bars = bars;
    every.add(this);
    new ResizeObserver(() => this.#fit()).observe(place);
  }

  show(times, values) {
    this.#data = [times, values];
    if (!this.#plot) this.draw();
    else this.#plot.setData(this.#data);
  }

  draw() {
    if (this.#plot) this.#plot.destroy();
    this.#plot = null;
    if (!this.#place.clientWidth) return;
    const [ink, quiet, line] = [colour(this.#ink), colour("--quiet"), colour("--line")];
    const axis = { stroke: quiet, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "11px system-ui" };
    const fill = ink.length === 7 ? `${ink}22` : ink;
    this.#plot = new uPlot({
      width: this.#place.clientWidth,
      height: this.#place.clientHeight,
      padding: [6, 4, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, this.#least) || 1] } },
      axes: [
        { ...axis, size: 24, gap: 7, space: 70, values: (_, ticks) => ticks.map((tick) => minute(tick, ticks[ticks.length - 1] - ticks[0] < 600)) },
        { ...axis, size: 56, gap: 4, space: 20, incrs: this.#steps, values: (_, ticks) => ticks.map((tick) => this.#format(tick)) },
      ],
      series: [{}, {
        stroke: ink,
        fill,
        width: 1.5,
        points: { show: false },
        paths: this.#bars ? uPlot.paths.bars({ size: [1, 6], align: -1 }) : undefined,
      }],
      hooks: { setCursor: [(plot) => this.#point(plot.cursor.idx)] },
    }, this.#data, this.#place);
  }

  #point(index) {
    const [times, values] = this.#data;
    const known = index !== null && index !== undefined && times[index] !== undefined;
    this.#place.title = known ? `${minute(times[index], true)}: ${this.#format(values[index])}` : "";
  }

  #fit() {
    if (!this.#plot) return this.#data[0].length ? this.draw() : undefined;
    this.#plot.setSize({ width: this.#place.clientWidth, height: this.#place.clientHeight });
  }
}

// Steps of an axis: for what is counted, and for bytes.
export const WHOLE = [1, 2, 5].flatMap((one) => [...Array(9).keys()].map((power) => one * 10 ** power)).sort((a, b) => a - b);
export const POWERS = [...Array(50).keys()].map((power) => 2 ** power);

const MOST_SAMPLES = 1200; // more than a plot has pixels; beyond it every second one is dropped

// Columns of samples, and further ones. A connection that is made again brings those that are known once more.
export function addSamples(samples, more) {
  const again = samples.time.findIndex((at) => at >= more.time[0]);
  for (const [name, values] of Object.entries(more)) {
    if (again >= 0) samples[name].length = again;
    samples[name].push(...values);
  }
  if (samples.time.length <= MOST_SAMPLES) return;
  for (const name of Object.keys(samples)) samples[name] = samples[name].filter((_, number) => number % 2 === 0);
}

function minute(seconds, whole = false) {
  const text = dayTime(new Date(seconds * 1000));
  return whole === true ? text : text.slice(0, 5);
}

dark.addEventListener("change", () => every.forEach((plot) => plot.draw()));
