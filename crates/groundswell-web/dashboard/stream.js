// The one event stream of the page: opened, watched, and opened again from where it was, for as long as the page lives.
// Pure but for what it is given: the EventSource, the clock, the timers and the dice.

import { EXACT, parse } from './json.js';
import { completes, streamQuery } from './topics.js';

/** The first wait before another try, and the longest, in milliseconds; each try doubles it. */
const FIRST_WAIT = 250;
const LONGEST_WAIT = 5_000;
/** How long a stream may take to say hello, in milliseconds. */
const HELLO_MS = 10_000;
/** After so many missing heartbeats the node is gone. */
const MISSED = 3;
/** After so long a topic that failed, which the rest of the stream outlives, is followed again, in milliseconds. */
const FOLLOW_AGAIN = 5000;
/** Why a topic may end that is there still. */
const FAILURES = ['failed', 'storage', 'other'];

/** The names of all events: an EventSource has to be asked for each. */
const NAMES = [
  'hello', 'heartbeat', 'put', 'delete', 'left', 'reset', 'caught_up', 'update', 'not_available', 'killed', 'freshness',
  'ended', 'gone', 'machine', 'claim', 'pairing', 'node', 'publication', 'publication_gone', 'subscription', 'subscription_gone',
];

/** @typedef {import('./topics.js').Topic} Topic */
/**
 * @typedef {object} Status
 * @property {'connecting'|'catching up'|'live'|'gone'|'refused'|'resting'} state
 * @property {number} since By the page's clock.
 * @property {string|null} reason Why it is gone or refused.
 * @property {number} tries Since it was gone.
 * @property {number|null} nextTry When, by the page's clock.
 */
/**
 * @typedef {object} Needs
 * @property {(url: string) => EventSource} open
 * @property {() => number} now A clock that nobody sets, in milliseconds.
 * @property {() => number} wall The clock of the wall, which goes on while the device sleeps.
 * @property {(call: () => void, ms: number) => any} setTimer
 * @property {(timer: any) => void} clearTimer
 * @property {() => number} random From 0 to 1.
 * @property {() => Promise<{status: number, detail: string}|null>} probe Asks the node why there is no stream; null: it does not answer.
 * @property {(event: any, topics: Topic[]) => void} onEvent
 * @property {(status: Status) => void} onStatus
 * @property {(back: {after: number, restarted: boolean, rested: boolean}) => void} onBack All is here again, after so many milliseconds; `rested`: the page had let go of it by itself.
 */

export class Stream {
  /** @param {string} base The address of the stream, without its query. @param {Needs} needs */
  constructor(base, needs) {
    this.base = base;
    this.needs = needs;
    /** @type {Topic[]} */
    this.topics = [];
    /** The id of the last event that had one. @type {string|null} */
    this.lastId = null;
    /** @type {EventSource|null} */
    this.source = null;
    /** @type {Status} */
    this.status = { state: 'connecting', since: needs.now(), reason: null, tries: 0, nextTry: null };
    /** The run of the node that was seen last. @type {string|null} */
    this.run = null;
    this.restarted = false;
    this.rested = false;
    /** Since when the page is not right. @type {number|null} */
    this.wrongSince = null;
    this.heartbeat = 10_000;
    this.ended = '';
    /** @type {Set<number>} */
    this.incomplete = new Set();
    this.timer = null;
    this.watch = null;
    this.again = null;
    this.heard = 0;
    this.heardWall = 0;
  }

  /** Follows these topics from now on; those that were followed before go on where they were. @param {Topic[]} topics */
  follow(topics) {
    this.topics = topics;
    if (this.status.state !== 'resting') this.connect();
  }

  /** Tries now. */
  retry() {
    this.needs.clearTimer(this.timer);
    this.connect();
  }

  /** Gives the connection back while nobody looks. */
  rest() {
    this.close();
    this.needs.clearTimer(this.timer);
    this.rested ||= this.wrongSince === null;
    this.wrongSince ??= this.needs.now();
    this.setStatus('resting', null);
  }

  /** Somebody looks again: a device that slept has a connection that says nothing any more. */
  wake() {
    const silent = Math.abs(this.needs.wall() - this.heardWall) > this.heartbeat * 1.5;
    if (this.status.state === 'resting' || this.status.state === 'gone' || silent) this.retry();
  }

  close() {
    this.source?.close();
    this.source = null;
    this.needs.clearTimer(this.watch);
    this.needs.clearTimer(this.again);
  }

  connect() {
    this.close();
    this.ended = '';
    this.needs.clearTimer(this.timer);
    if (this.topics.length === 0) return;
    const source = this.needs.open(`${this.base}?${streamQuery(this.topics, this.lastId)}`);
    this.source = source;
    const { topics } = this;
    this.incomplete = new Set(topics.keys());
    const hear = (/** @type {MessageEvent} */ message) => source === this.source && this.hear(message, topics);
    for (const name of NAMES) source.addEventListener(name, /** @type {EventListener} */ (hear));
    source.addEventListener('error', () => source === this.source && this.lose());
    this.expect(HELLO_MS);
    if (this.status.state === 'live' || this.status.state === 'resting') this.setStatus('connecting', null);
  }

  /** Something has to come within this time from now. @param {number} ms */
  expect(ms) {
    this.needs.clearTimer(this.watch);
    const since = this.needs.now();
    // One timer looks at what has come since it was set: an event sets none, since there may be thousands of them.
    this.watch = this.needs.setTimer(() => {
      const left = this.heard + this.heartbeat * MISSED - this.needs.now();
      if (this.heard > since && left > 0) return this.expect(left);
      this.wrongSince ??= this.heard || null;
      this.ended = 'it says nothing';
      this.lose();
    }, ms);
  }

  /** @param {MessageEvent} message @param {Topic[]} topics */
  hear(message, topics) {
    const event = parseEvent(message.data);
    if (message.lastEventId) this.lastId = message.lastEventId;
    this.heard = this.needs.now();
    this.heardWall = this.needs.wall();
    if (event.type === 'hello') {
      this.restarted ||= this.run !== null && this.run !== event.run;
      this.run = event.run;
      this.heartbeat = event.heartbeat_ms;
      this.setStatus('catching up', null);
      this.expect(this.heartbeat * MISSED);
    }
    this.needs.onEvent(event, topics);
    if (event.type === 'ended' && event.topic === undefined) {
      this.ended = event.reason;
      this.lose();
      return;
    }
    if (event.type === 'ended' && FAILURES.includes(event.reason)) {
      this.needs.clearTimer(this.again);
      this.again = this.needs.setTimer(() => this.connect(), FOLLOW_AGAIN);
    }
    if (this.incomplete.size > 0 && topics[event.topic]) {
      // The node's own topic ends its first view as the others do.
      if (completes(topics[event.topic], event)) this.incomplete.delete(event.topic);
      if (this.incomplete.size === 0) this.complete();
    }
  }

  /** All topics are here. */
  complete() {
    const { wrongSince, restarted, rested } = this;
    this.setStatus('live', null);
    this.status.tries = 0;
    this.wrongSince = null;
    this.restarted = this.rested = false;
    if (wrongSince !== null) this.needs.onBack({ after: this.needs.now() - wrongSince, restarted, rested });
  }

  /** The stream is broken, has ended, or could not be opened. */
  async lose() {
    const said = this.ended;
    this.close();
    this.rested = false;
    this.wrongSince ??= this.needs.now();
    const { tries } = this.status;
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** Math.min(tries, 10)) * (0.5 + this.needs.random() / 2);
    this.setStatus('gone', said || this.status.reason);
    Object.assign(this.status, { tries: tries + 1, nextTry: this.needs.now() + wait });
    this.needs.clearTimer(this.timer);
    this.timer = this.needs.setTimer(() => this.connect(), wait);
    this.needs.onStatus(this.status);
    const answer = await this.needs.probe();
    if (answer && answer.status !== 200 && this.source === null && this.status.state === 'gone') {
      if (answer.status === 401 || answer.status === 403) this.needs.clearTimer(this.timer);
      this.setStatus(answer.status === 401 || answer.status === 403 ? 'refused' : 'gone', answer.detail);
    }
  }

  /** @param {Status['state']} state @param {string|null} reason */
  setStatus(state, reason) {
    const since = state === 'gone' || state === 'refused' ? this.wrongSince ?? this.needs.now() : this.needs.now();
    this.status = { ...this.status, state, since, reason };
    this.needs.onStatus(this.status);
  }
}

/** What only an event with exact numbers contains: a quotation mark inside of a string has a backslash before it. */
const HAS_EXACT = new RegExp(`"(?:${EXACT.join('|')})":`);

/**
 * The event of a line of JSON. The numbers of its rock and its wave are exact. The browser's own parser, which is many
 * times faster, reads the events that have neither: ten thousand entries are as many events.
 * @param {string} text @returns {any}
 */
export const parseEvent = (text) => (HAS_EXACT.test(text) ? parse(text, EXACT) : JSON.parse(text));
