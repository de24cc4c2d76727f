// Publications and replicas: two tables whose cells change in place.

import { byId, el, keyed, markId, setHidden, setStanding, setText } from './dom.js';
import { sourceId } from './model.js';
import { accessWords, count, freshness, lagWords, rateWords, readersWords, ruleWords, shortId } from './words.js';

/** Columns of figures, which stand right. */
const AMOUNTS = ['Aeon', 'Rate', 'Readers', 'Lag'];

export class PathsView {
  /** @param {import('./model.js').Model} model @param {{view: (subject: import('./rock.js').PathState['subject']) => void}} does */
  constructor(model, does) {
    this.model = model;
    this.does = does;
  }

  /** @param {number} now */
  render(now) {
    const { publications, subscriptions } = this.model;
    const clockNow = now - (this.model.offset ?? 0);
    this.now = clockNow;
    keyed(byId('publications-body'), publications.values(), ({ agent, path }) => `${agent}\n${path}`, (item) => this.publication(item));
    keyed(byId('replicas-body'), subscriptions.values(), ({ source }) => sourceId(source), (item) => this.replica(item));
    for (const [name, list] of /** @type {const} */ ([['publications', publications], ['replicas', subscriptions]])) {
      const empty = list.held.size === 0;
      setHidden(byId(`${name}-table`), empty);
      setHidden(byId(`${name}-none`), !empty || !list.caughtUp);
    }
  }

  /** @param {any} first */
  publication(first) {
    const subject = { kind: /** @type {const} */ ('publication'), agent: first.agent, path: first.path, lake: first.lake };
    const { node, cells, mark } = this.row(subject, ['Lake', 'Aeon', 'Rate', 'Readers', 'Rule', 'Access']);
    return { node, update: (/** @type {any} */ item) => {
      const values = [item.lake ?? '–', item.killed ? 'killed' : aeon(item.aeon), rateWords(item.waves_per_second), readersWords(item), ruleWords(item.rule), accessWords(item.access)];
      values.forEach((value, at) => setText(cells[at], value));
      cells[4].title = `${count(item.kept_waves)} waves and ${count(item.kept_rocks)} rocks are kept`;
      if (Array.isArray(item.access)) cells[5].title = item.access.join('\n');
      mark();
    } };
  }

  /** @param {any} first */
  replica(first) {
    const subject = { kind: /** @type {const} */ ('subscription'), ...first.source, lake: first.lake };
    const { node, cells, mark } = this.row(subject, ['Source', 'Lake', 'Freshness', 'Aeon', 'Rate', 'Lag', 'Readers', 'Rule']);
    const [standing, stale] = [el('span', { class: 'standing' }), el('small')];
    cells[2].append(standing, stale);
    cells[0].title = first.source.peer;
    const whose = el('span', { class: 'mono', text: shortId(first.source.peer) });
    markId(whose, first.source.peer);
    cells[0].append(whose);
    return { node, update: (/** @type {any} */ item) => {
      // How far behind it may be grows by itself, without an event.
      const lag = item.freshness === 'live' && !item.stale ? 0 : item.current_at_ms === null ? null : Math.max(0, (this.now ?? 0) - item.current_at_ms);
      const values = [null, item.lake ?? '–', null, aeon(item.aeon), rateWords(item.waves_per_second), lagWords(lag), readersWords(item), ruleWords(item.rule)];
      values.forEach((value, at) => value !== null && setText(cells[at], value));
      const fresh = freshness(item, this.now ?? 0);
      setStanding(standing, fresh);
      setText(stale, [item.stale ? 'stale' : '', fresh.detail].filter(Boolean).join('; '));
      mark();
    } };
  }

  /** @param {import('./rock.js').PathState['subject']} subject @param {string[]} labels */
  row(subject, labels) {
    const name = el('button', { class: 'link', text: subject.path, attrs: { type: 'button' }, on: { click: () => this.does.view(subject) } });
    const agent = el('small', { text: subject.agent === 'main' ? '' : `agent ${subject.agent}` });
    const cells = labels.map((label) => el('td', { class: AMOUNTS.includes(label) ? 'amount' : '', attrs: { 'data-label': label } }));
    const node = el('tr', {}, el('th', { attrs: { scope: 'row', 'data-label': 'Path' } }, name, agent), ...cells);
    const mark = () => {
      const looked = this.model.path?.subject;
      const same = looked && looked.kind === subject.kind && looked.path === subject.path && looked.peer === subject.peer && looked.agent === subject.agent;
      if (same) name.setAttribute('aria-current', 'true');
      else name.removeAttribute('aria-current');
    };
    return { node, cells, mark };
  }
}

/** @param {number|null} value */
const aeon = (value) => (value === null ? '–' : count(value));
