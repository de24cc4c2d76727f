// The plots of events a second and of latency: two drawings of the last two minutes, and the same in words.

import { byId, setText } from './dom.js';
import { count } from './words.js';

const SVG = 'http://www.w3.org/2000/svg';
/** The size of a drawing, in its own units; the page scales it. */
const WIDTH = 600;
const HEIGHT = 120;
const LEFT = 52;
const BOTTOM = 18;

export class PlotView {
  /** @param {import('./model.js').Model} model */
  constructor(model) {
    this.model = model;
    this.events = new Drawing(byId('events-plot'), [['events', 'area']]);
    this.latency = new Drawing(byId('latency-plot'), [['worst', 'line dotted'], ['median', 'line']]);
  }

  /** @param {number} now */
  render(now) {
    const points = this.model.series.points(now);
    const last = points[points.length - 1];
    this.events.draw([points.map((point) => point.count)], 10);
    this.latency.draw([points.map((point) => point.worst), points.map((point) => point.median)], 10, ' ms');
    setText(byId('events-now'), count(last.count));
    const latency = last.median === null ? 'no event in the last second' : `median ${count(Math.round(last.median))} ms, worst ${count(Math.round(last.worst ?? 0))} ms`;
    setText(byId('latency-now'), latency);
    const most = Math.max(...points.map((point) => point.count));
    const worst = points.reduce((max, point) => Math.max(max, point.worst ?? 0), 0);
    this.events.say(`Events a second over two minutes: ${last.count} now, ${most} at most`);
    this.latency.say(`Latency over two minutes: ${latency} now, ${Math.round(worst)} ms at worst. The line is the median of each second, the dots its worst.`);
  }
}

class Drawing {
  /** @param {HTMLElement} svg @param {[string, string][]} curves Names and classes. */
  constructor(svg, curves) {
    this.svg = svg;
    svg.setAttribute('viewBox', `0 0 ${WIDTH} ${HEIGHT}`);
    const make = (/** @type {string} */ tag, /** @type {Record<string, string|number>} */ attrs) => {
      const node = document.createElementNS(SVG, tag);
      for (const [name, value] of Object.entries(attrs)) node.setAttribute(name, String(value));
      svg.append(node);
      return node;
    };
    const base = HEIGHT - BOTTOM;
    for (const y of [8, (8 + base) / 2, base]) make('line', { x1: LEFT, x2: WIDTH, y1: y, y2: y, class: 'rule' });
    this.labels = [8, (8 + base) / 2, base].map((y) => make('text', { x: LEFT - 6, y: y + 4, class: 'label end' }));
    const label = (/** @type {number} */ x, /** @type {string} */ side, /** @type {string} */ text) => {
      make('text', { x, y: HEIGHT - 3, class: `label ${side}` }).textContent = text;
    };
    label(LEFT, '', '2 min ago');
    label((LEFT + WIDTH) / 2, 'middle', '1 min');
    label(WIDTH, 'end', 'now');
    this.curves = curves.map(([, kind]) => make('path', { class: `curve ${kind}` }));
    this.areas = curves.map(([, kind]) => kind.includes('area'));
  }

  /** @param {(number|null)[][]} series @param {number} least The least top of the scale. @param {string} [unit] */
  draw(series, least, unit = '') {
    const top = roundUp(Math.max(least, ...series.flat().map((value) => value ?? 0)));
    const base = HEIGHT - BOTTOM;
    const y = (/** @type {number} */ value) => base - (value / top) * (base - 8);
    [top, top / 2, 0].forEach((value, at) => setText(this.labels[at], `${count(value)}${unit}`));
    series.forEach((values, at) => {
      const x = (/** @type {number} */ index) => LEFT + (index / (values.length - 1)) * (WIDTH - LEFT);
      let path = '';
      let pen = false;
      values.forEach((value, index) => {
        if (value !== null) path += `${pen ? 'L' : 'M'}${x(index).toFixed(1)} ${y(value).toFixed(1)}${pen ? '' : 'h.01'}`;
        pen = value !== null;
      });
      if (this.areas[at] && path) path += `L${WIDTH} ${base}L${LEFT} ${base}Z`;
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
