// All that the page knows, and how each event of the stream changes it. Pure: no page, no network, no clock of its own.

import { Entries } from './entries.js';
import { PathState } from './rock.js';
import { Series } from './series.js';

/** Clocks that differ by less are one clock, and the difference is the way of the message, in milliseconds. */
const SAME_CLOCK_MS = 250;
/** One that changes by more was set, in milliseconds: no message is on its way for so long. */
const SET_CLOCK_MS = 10_000;
/** The moments in what the node says, by its clock as it was at that time. */
const MOMENTS = ['since_ms', 'current_at_ms', 'undelivered_since_ms', 'went_back_at_ms', 'begun_ms', 'started_ms'];

/** @typedef {import('./topics.js').Topic} Topic */
/** @typedef {'node'|'machines'|'claims'|'paths'|'entries'|'rock'|'series'} Part What can have changed. */

/** A list that is told whole at the beginning of every stream: what is not told again has gone. @template T */
export class List {
  constructor() {
    /** @type {Map<string, {value: T, round: number}>} */
    this.held = new Map();
    this.round = 0;
    this.caughtUp = false;
  }

  begin() {
    this.round += 1;
    this.caughtUp = false;
  }

  /** @param {string} id @param {T} value */
  set(id, value) {
    this.held.set(id, { value, round: this.round });
  }

  /** @returns {string[]} What has gone. */
  end() {
    this.caughtUp = true;
    const gone = [...this.held].filter(([, { round }]) => round !== this.round).map(([id]) => id);
    for (const id of gone) this.held.delete(id);
    return gone;
  }

  /** @param {string} id @returns {T|undefined} */
  get(id) {
    return this.held.get(id)?.value;
  }

  /** In the order of their ids. @returns {T[]} */
  values() {
    return [...this.held.keys()].sort().map((id) => /** @type {{value: T}} */ (this.held.get(id)).value);
  }
}

export class Model {
  constructor() {
    /** @type {any} */
    this.node = null;
    /** @type {List<any>} */
    this.machines = new List();
    /** @type {List<any>} */
    this.claims = new List();
    /** Whether this machine takes claims, and when that was told. @type {any} */
    this.pairing = null;
    /** @type {List<any>} */
    this.publications = new List();
    /** @type {List<any>} */
    this.subscriptions = new List();
    this.entries = new Entries();
    /** Whose entries: an id, or `*`; and why there are none any more. @type {{machine: string, space: string, ended: string|null}|null} */
    this.looksAt = null;
    /** @type {PathState|null} */
    this.path = null;
    this.series = new Series();
    /** How far the node's clock is behind this page's, in milliseconds. @type {number|null} */
    this.offset = null;
    /** @type {Set<Part>} */
    this.changed = new Set();
  }

  /** The parts that have changed since this was asked last. @returns {Set<Part>} */
  takeChanged() {
    const { changed } = this;
    this.changed = new Set();
    return changed;
  }

  /** Whose entries are looked at from now on. @param {{machine: string, space: string}|null} subject */
  lookAt(subject) {
    this.looksAt = subject && { ...subject, ended: null };
    this.entries.clear();
    this.changed.add('entries').add('machines');
  }

  /** Which path is looked at from now on. @param {import('./rock.js').PathState['subject']|null} subject */
  lookAtPath(subject) {
    this.path = subject && new PathState(subject);
    this.changed.add('rock').add('paths');
  }

  /** An event of the stream. @param {any} event @param {Topic[]} topics @param {number} now By the page's clock. */
  apply(event, topics, now) {
    if (event.type === 'hello') return this.begin();
    if (event.type === 'heartbeat') return this.setClock(now - event.now_ms);
    const topic = topics[event.topic];
    if (!topic) return;
    if (topic.kind === 'kv') this.applyEntry(event, topic, now);
    else if ('path' in topic) this.applyPath(event, topic, now);
    else this.applyList(event, topic, now);
  }

  /** A new stream, the first or another. */
  begin() {
    for (const list of [this.machines, this.claims, this.publications, this.subscriptions]) list.begin();
    if (this.path) this.path.caughtUp = false;
  }

  /** @param {number} offset */
  setClock(offset) {
    const before = this.offset !== null && Math.abs(offset - this.offset) < SET_CLOCK_MS ? this.offset : offset;
    const least = Math.abs(offset) < Math.abs(before) ? offset : before;
    this.offset = Math.abs(least) < SAME_CLOCK_MS ? 0 : least;
  }

  /** @param {any} event @param {Topic & {kind: 'kv'}} topic @param {number} now */
  applyEntry(event, topic, now) {
    // An event of the machine that was looked at before.
    if (!this.looksAt || this.looksAt.machine !== topic.machine || this.looksAt.space !== topic.space) return;
    this.changed.add('entries');
    if (event.type !== 'ended') this.looksAt.ended = null;
    switch (event.type) {
      case 'put':
        this.entries.put(event, now);
        if (event.live) this.count(now, this.latency(event, now));
        break;
      case 'delete':
        this.entries.delete(event, now);
        if (event.live) this.count(now, this.latency(event, now));
        break;
      case 'left':
        this.entries.left(event);
        break;
      case 'reset':
        this.entries.reset(event.machine);
        break;
      case 'caught_up':
        if (event.machine) this.entries.caughtUp(event.machine);
        if (event.machines) this.entries.keepOnly(event.machines);
        break;
      case 'gone':
        this.entries.forget(event.machine);
        break;
      case 'ended':
        this.looksAt.ended = event.reason;
        if (event.reason === 'released') this.entries.forget(topic.machine);
        break;
    }
  }

  /** @param {any} event @param {Topic} topic @param {number} now */
  applyPath(event, topic, now) {
    const { path } = this;
    if (!path || !('path' in topic) || path.subject.path !== topic.path || path.subject.peer !== topic.peer || path.subject.agent !== topic.agent || path.subject.kind !== topic.kind) return;
    path.apply(event, now);
    this.changed.add('rock');
    if (event.type === 'update' && event.live) this.count(now, null);
  }

  /** @param {any} event @param {Topic} topic @param {number} now */
  applyList(event, topic, now) {
    switch (event.type) {
      case 'node':
        this.node = byPage(event.node, event.node.now_ms, now);
        this.setClock(now - event.node.now_ms);
        this.changed.add('node');
        break;
      case 'machine':
        this.machines.set(event.machine.id, byPage(event.machine, event.now_ms, now));
        this.changed.add('machines');
        break;
      case 'gone':
        this.machines.held.delete(event.machine);
        this.changed.add('machines');
        break;
      case 'pairing':
        this.pairing = { ...event.pairing, told_ms: now };
        this.changed.add('claims');
        break;
      case 'claim':
        this.claims.set(String(event.claim.claim).padStart(12, '0'), byPage(event.claim, event.now_ms, now));
        this.changed.add('claims');
        break;
      case 'publication':
        this.publications.set(`${event.publication.agent}\n${event.publication.path}`, event.publication);
        this.changed.add('paths');
        break;
      case 'publication_gone':
        this.publications.held.delete(`${event.agent}\n${event.path}`);
        this.changed.add('paths');
        break;
      case 'subscription':
        this.subscriptions.set(sourceId(event.subscription.source), byPage(event.subscription, event.now_ms, now));
        this.changed.add('paths');
        break;
      case 'subscription_gone':
        this.subscriptions.held.delete(sourceId(event.source));
        this.changed.add('paths');
        break;
      case 'caught_up':
        this.endList(topic);
        break;
    }
  }

  /** @param {Topic} topic */
  endList(topic) {
    if (topic.kind === 'machines') {
      for (const id of this.machines.end()) this.entries.forget(id);
      this.changed.add('machines').add('entries');
    } else if (topic.kind === 'claims') {
      this.claims.end();
      this.changed.add('claims');
    } else if (topic.kind === 'publications' || topic.kind === 'subscriptions') {
      this[topic.kind].end();
      this.changed.add('paths');
    }
  }

  /** @param {number} now @param {number|null} latency */
  count(now, latency) {
    this.series.add(now, latency);
    this.changed.add('series');
  }

  /** From the writer's clock to this page, in milliseconds; null where that clock is not known here. @param {any} event @param {number} now @returns {number|null} */
  latency(event, now) {
    const machine = this.machines.get(event.machine);
    if (!machine) return null;
    const other = machine.own ? 'manager' : 'machine';
    const skew = event.author === other ? machine.skew_ms : 0;
    if (skew === null) return null;
    return Math.max(0, now - (this.offset ?? 0) - (event.timestamp - skew));
  }
}

/**
 * The same with its moments by the page's clock, so that how long ago they were does not change with the node's.
 * @param {any} said @param {number} nodeNow What the node's clock showed when it said it. @param {number} now
 */
function byPage(said, nodeNow, now) {
  const moments = MOMENTS.filter((name) => typeof said[name] === 'number');
  return { ...said, ...Object.fromEntries(moments.map((name) => [name, now - (nodeNow - said[name])])) };
}

/** @param {{peer: string, agent: string, path: string}} source */
export function sourceId({ peer, agent, path }) {
  return `${peer}\n${agent}\n${path}`;
}
