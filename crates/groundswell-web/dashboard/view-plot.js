// The plots of events a second and of latency: two drawings of the last two minutes, and the same in words.

import { byId, setText } from './dom.js';
import { count } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
/** The size of a drawing, in pixels: it is as wide as its place, so that its words are as large as the page's. */
const LEAST_WIDTH = 160;
const HEIGHT = 92;
const LEFT = 46;
const TOP = 8;
const BOTTOM = 18;
/** From so wide on there is room for a word in the middle. */
const WIDE = 280;

export class PlotView {
  /** @param {import('./model.js').Model} model */
  constructor(model) {
    this.model = model;
    this.events = new Drawing(byId('events-plot'), ['area']);
    this.latency = new Drawing(byId('latency-plot'), ['line dotted', 'line']);
    /** Since when there is something to draw, in milliseconds: before that is not zero, but not known. */
    this.since = Infinity;
  }

  /** @param {number} now */
  render(now) {
    this.since = Math.min(this.since, now);
    const known = Math.floor(this.since / 1000);
    const points = this.model.series.points(now);
    const last = points[points.length - 1];
    const counts = points.map((point) => (point.second < known ? null : point.count));
    this.events.draw([counts], 10);
    this.latency.draw([points.map((point) => point.worst), points.map((point) => point.median)], 10, ' ms');
    const most = Math.max(...points.map((point) => point.count));
    const worst = points.reduce((max, point) => Math.max(max, point.worst ?? 0), 0);
    setText(byId('events-now'), count(last.count));
    setText(byId('events-note'), most === 0 ? 'none yet' : `entries and waves; peak\u00a0${count(most)}`);
    setText(byId('latency-now'), last.median === null ? '–' : `${count(Math.round(last.median))} ms`);
    setText(byId('latency-note'), last.median === null ? 'no event just now' : `median of a second; dots:\u00a0its\u00a0worst,\u00a0${count(Math.round(last.worst ?? 0))}\u00a0ms`);
    const latency = last.median === null ? 'no event in the last second' : `median ${count(Math.round(last.median))} ms`;
    this.events.say(`Events per second over two minutes: ${last.count} now, ${most} at most`);
    this.latency.say(`Latency over two minutes: ${latency} now, ${Math.round(worst)} ms at worst. The line is the median of each second, the dots its worst.`);
  }
}

class Drawing {
  /** @param {HTMLElement} svg @param {string[]} curves Their classes. */
  constructor(svg, curves) {
    this.svg = svg;
    this.width = 0;
    const make = (/** @type {string} */ tag, /** @type {string} */ kind) => {
      const node = document.createElementNS(SVG, tag);
      node.setAttribute('class', kind);
      svg.append(node);
      return node;
    };
    this.rules = [0, 1, 2].map(() => make('line', 'rule'));
    this.labels = [0, 1, 2].map(() => make('text', 'label end'));
    this.times = ['', 'middle', 'end'].map((side) => make('text', `label ${side}`));
    ['2 min ago', '1 min ago', 'now'].forEach((text, at) => setText(this.times[at], text));
    this.curves = curves.map((kind) => make('path', `curve ${kind}`));
    this.areas = curves.map((kind) => kind.includes('area'));
  }

  /** Takes the width of its place. */
  measure() {
    const width = Math.max(LEAST_WIDTH, Math.round(this.svg.getBoundingClientRect().width));
    if (width === this.width) return;
    this.width = width;
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const base = HEIGHT - BOTTOM;
    [TOP, (TOP + base) / 2, base].forEach((y, at) => {
      for (const [name, value] of Object.entries({ x1: LEFT, x2: width, y1: y, y2: y })) this.rules[at].setAttribute(name, String(value));
      this.labels[at].setAttribute('x', String(LEFT - 6));
      this.labels[at].setAttribute('y', String(y + 4));
    });
    [LEFT, (LEFT + width) / 2, width].forEach((x, at) => {
      this.times[at].setAttribute('x', String(x));
      this.times[at].setAttribute('y', String(HEIGHT - 3));
    });
    this.times[1].setAttribute('visibility', width < WIDE ? 'hidden' : 'visible');
  }

  /** @param {(number|null)[][]} series @param {number} least The least top of the scale. @param {string} [unit] */
  draw(series, least, unit = '') {
    this.measure();
    const top = roundUp(Math.max(least, ...series.flat().map((value) => value ?? 0)));
    const base = HEIGHT - BOTTOM;
    const y = (/** @type {number} */ value) => base - (value / top) * (base - TOP);
    [top, top / 2, 0].forEach((value, at) => setText(this.labels[at], `${count(value)}${unit}`));
    series.forEach((values, at) => {
      const x = (/** @type {number} */ index) => (LEFT + (index / (values.length - 1)) * (this.width - LEFT)).toFixed(1);
      let path = '';
      /** Where the piece begins that is being drawn. @type {string|null} */
      let begin = null;
      const end = (/** @type {number} */ index) => {
        if (begin !== null && this.areas[at]) path += `V${base}H${begin}Z`;
        begin = index < 0 ? null : x(index);
      };
      values.forEach((value, index) => {
        if (value === null) return end(-1);
        if (begin === null) {
          end(index);
          path += `M${begin} ${y(value).toFixed(1)}h.01`;
        } else {
          path += `L${x(index)} ${y(value).toFixed(1)}`;
        }
      });
      end(-1);
      this.curves[at].setAttribute('d', path);
    });
  }

  /** @param {string} text */
  say(text) {
    this.svg.setAttribute('aria-label', text);
  }
}

/** @param {number} value @returns {number} The next of 10, 20, 50, 100, … */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value) ?? value;
}
