// The rock of one path: a log's lines, a sum's number, or a tree of JSON that keeps what is open; and the last waves.

import { printable } from './bytes.js';
import { byId, el, keyed, setHidden, setText } from './dom.js';
import { hasMembers, Numeral, stringify } from './json.js';
import { clock, count, endWords, shortId } from './words.js';

/** The most lines of a log that are shown: the newest. */
const LINES = 500;
/** The most members of one level of a tree, until more are asked for. */
const MEMBERS = 100;
/** A member with so few members of its own is open from the beginning, if it stands at the top. */
const OPEN_MEMBERS = 20;
/** The most characters of a string or a wave. */
const CHARACTERS = 2_000;

export class RockView {
  /** @param {import('./model.js').Model} model @param {{redraw: () => void}} does */
  constructor(model, does) {
    this.model = model;
    this.does = does;
    this.value = byId('rock-value');
    /** @type {import('./rock.js').PathState|null} */
    this.of = null;
    /** @type {{node: HTMLElement, update: (rock: any) => void}|null} */
    this.shape = null;
    this.kind = '';
  }

  render() {
    const { path } = this.model;
    setHidden(byId('rock-view'), !path);
    if (!path) return;
    if (path !== this.of) {
      this.of = path;
      this.shape = null;
      this.value.replaceChildren();
    }
    const { subject } = path;
    const where = subject.peer ? ` from ${shortId(subject.peer)}` : '';
    setText(byId('rock-title'), `Rock of ${subject.path}`);
    const aeon = path.rockAeon === null ? '' : `, aeon ${count(path.rockAeon)}`;
    const stale = path.stale ? ' Stale: it may be behind its source.' : '';
    const word = path.word ? ` ${endWords(path.word)}` : '';
    const reading = path.needsRead ? ' Reading a newer one…' : '';
    setText(byId('rock-summary'), `${subject.kind === 'publication' ? 'Publication' : 'Replica'}${where}, lake ${path.lake ?? 'not known'}${aeon}.${stale}${word}${path.detail ? ` ${path.detail}` : ''}${reading}`);
    byId('rock-view').classList.toggle('stale', path.stale);
    this.renderRock(path);
    const waves = path.waves;
    setHidden(byId('waves-none'), waves.length > 0);
    keyed(byId('waves'), waves, (wave) => `${subject.path} ${wave.aeon}`, (wave) => {
      const text = waveText(path.lake, wave.wave);
      const node = el('li', {}, el('span', { class: 'aeon', text: count(wave.aeon) }), el('code', { text: short(text), title: short(text) }), el('small', { text: wave.live ? clock(wave.at) : 'from before' }));
      return { node, update: () => {} };
    });
  }

  /** @param {import('./rock.js').PathState} path */
  renderRock(path) {
    if (path.rock === undefined || path.rock === null) {
      this.shape = null;
      this.value.replaceChildren(el('p', { class: 'empty', text: path.rock === null && path.rockAeon !== null ? 'null' : 'There is no state here yet.' }));
      return;
    }
    const kind = path.lake === 'log' && Array.isArray(path.rock) ? 'log' : typeof path.rock === 'number' || path.rock instanceof Numeral ? 'number' : 'tree';
    if (!this.shape || this.kind !== kind) {
      this.kind = kind;
      this.shape = kind === 'log' ? lines(this.value) : kind === 'number' ? number() : tree(null, 0, this.does.redraw);
      this.value.replaceChildren(this.shape.node);
    }
    this.shape.update(path.rock);
  }
}

/** A wave in a line: of a JSON Patch, its operations. @param {string|null} lake @param {any} wave @returns {string} */
function waveText(lake, wave) {
  if (typeof wave === 'string') return wave;
  if (lake !== 'json' || !Array.isArray(wave)) return stringify(wave);
  const operation = (/** @type {any} */ one) => [one.op, one.from, one.path || 'the document', 'value' in one ? stringify(one.value) : ''].filter(Boolean).join(' ');
  return wave.map(operation).join('; ');
}

/** @param {string} text */
const short = (text) => printable(text.length > CHARACTERS ? `${text.slice(0, CHARACTERS)}…` : text);

/** A whole number with groups of three digits; any other as it is. @param {string} text */
const grouped = (text) => (/^-?\d+$/.test(text) ? text.replace(/\B(?=(\d{3})+$)/g, ',') : text);

function number() {
  const node = el('p', { class: 'number' });
  return { node, update: (/** @type {number|Numeral} */ value) => setText(node, grouped(stringify(value))) };
}

/** @param {HTMLElement} scroller */
function lines(scroller) {
  const list = el('ol', { class: 'log' });
  const above = el('p', { class: 'hint' });
  let end = 0;
  /** @type {string|undefined} */
  let last;
  const update = (/** @type {string[]} */ log) => {
    const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 30;
    const begin = Math.max(0, log.length - LINES);
    // The lines that are there already, stay, if this log has grown from them.
    const grown = end > begin && end <= log.length && log[end - 1] === last;
    if (!grown) list.replaceChildren();
    for (let at = grown ? end : begin; at < log.length; at += 1) list.append(el('li', { text: short(String(log[at])), attrs: { value: String(at + 1) } }));
    while (list.children.length > LINES) list.firstElementChild?.remove();
    end = log.length;
    last = log[end - 1];
    setText(above, log.length > LINES ? `The last ${count(LINES)} of ${count(log.length)} lines.` : log.length === 0 ? 'No line yet.' : '');
    if (atEnd || !grown) scroller.scrollTop = scroller.scrollHeight;
  };
  return { node: el('div', {}, above, list), update };
}

/** A value of JSON, with what is in it once it is opened. @param {string|null} name @param {number} depth @param {() => void} redraw @returns {{node: HTMLElement, update: (value: any) => void}} */
function tree(name, depth, redraw) {
  const label = name === null ? [] : [el('span', { class: 'member', text: `${printable(name)}: ` })];
  const scalar = el('span', { class: 'scalar' });
  const leaf = el('div', { class: 'leaf' }, ...label, scalar);
  const node = el('div', { class: 'branch' }, leaf);
  /** @type {HTMLDetailsElement|null} */
  let details = null;
  const size = el('span', { class: 'hint' });
  const members = el('div', { class: 'members' });
  const more = el('button', { class: 'small', attrs: { type: 'button' }, on: { click: () => { limit += MEMBERS; redraw(); } } });
  let limit = MEMBERS;
  /** @type {any} */
  let held;
  const fill = () => {
    const keys = Object.keys(held);
    keyed(members, keys.slice(0, limit), (key) => key, (key) => {
      const child = tree(key, depth + 1, redraw);
      return { node: child.node, update: () => child.update(held[key]) };
    });
    setHidden(more, keys.length <= limit);
    setText(more, `${count(keys.length - limit)} more`);
  };
  const update = (/** @type {any} */ value) => {
    held = value;
    if (!hasMembers(value)) {
      const text = stringify(value);
      setText(scalar, short(text));
      scalar.dataset.type = value === null ? 'null' : value instanceof Numeral ? 'number' : typeof value;
      if (leaf.parentNode !== node) node.replaceChildren(leaf);
      return;
    }
    if (!details) {
      const branchLabel = name === null ? 'The document' : printable(name);
      details = /** @type {HTMLDetailsElement} */ (el('details', { on: { toggle: () => details?.open && fill() } }, el('summary', {}, el('span', { class: 'member', text: `${branchLabel} ` }), size), members, more));
      details.open = depth === 0 || (depth === 1 && Object.keys(value).length <= OPEN_MEMBERS);
    }
    const length = Object.keys(value).length;
    setText(size, Array.isArray(value) ? `list of ${count(length)}` : `${count(length)} ${length === 1 ? 'member' : 'members'}`);
    if (details.parentNode !== node) node.replaceChildren(details);
    if (details.open) fill();
  };
  return { node, update };
}
