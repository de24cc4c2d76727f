// Who the node is, whether the page is right, and what is out of reach.

import { byId, el, keyed, setHidden, setText } from './dom.js';
import { clock, count, endWords, shortId, span } from './words.js';

/** What somebody new is to know of the page, by the role of the node. @type {Record<string, string>} */
const LEADS = {
  manager: 'This manager shares keys and values with each machine that it has claimed. What either side writes is here as soon as it is written.',
  machine: 'This machine shares its keys and values with the manager that claims it. What either side writes is here as soon as it is written.',
  peer: 'This node gives states to others and follows theirs, on paths. Each change is here as soon as it is given.',
};

/** How long the page says that it was not right, in milliseconds. */
const BACK_MS = 30_000;

export class HeadView {
  /** @param {import('./model.js').Model} model @param {{retry: () => void}} does */
  constructor(model, does) {
    this.model = model;
    /** @type {import('./stream.js').Status|null} */
    this.status = null;
    /** @type {{id: string, text: string, tone: string, until: number}|null} */
    this.back = null;
    const banner = byId('banner');
    this.bannerText = el('span');
    this.retry = el('button', { text: 'Try now', attrs: { type: 'button' }, on: { click: does.retry } });
    banner.append(this.bannerText, ' ', this.retry);
  }

  /** @param {{after: number, restarted: boolean, rested: boolean}} back @param {number} now */
  setBack({ after, restarted, rested }, now) {
    const why = restarted ? 'The node was restarted.' : rested ? 'This page was hidden, and let go of the node.' : 'The connection to the node was lost.';
    const text = `${why} What was shown was out of date for ${span(after)}, until ${clock(now)}. It is right again.`;
    this.back = { id: 'back', text, tone: 'good', until: now + BACK_MS };
  }

  /** @param {number} now */
  render(now) {
    const { node } = this.model;
    if (node) {
      setText(byId('who'), `${node.role} ${shortId(node.id)}`);
      setText(byId('lead'), LEADS[node.role] ?? '');
      const title = `${this.title()}${node.role} ${shortId(node.id)} – Groundswell`;
      if (document.title !== title) document.title = title;
    }
    this.renderConnection(now);
    this.renderNotices(now);
    this.renderTiles();
  }

  /** How it stands, in figures. */
  renderTiles() {
    const { node, machines, entries, looksAt, subscriptions, publications } = this.model;
    const all = machines.values();
    const own = all.find((machine) => machine.own);
    const online = all.filter((machine) => machine.link === 'online').length;
    setText(byId('tile-link-name'), own ? 'Manager' : 'Machines online');
    setText(byId('tile-link'), own ? (own.link === 'unclaimed' ? 'none' : own.link) : of(online, all.length));
    const behind = all.length - all.filter((machine) => machine.current).length;
    const fresh = behind === 0 ? 'all caught up' : `${count(behind)} not caught up`;
    setText(byId('tile-link-note'), own ? (own.manager ? shortId(own.manager) : 'not claimed yet') : all.length === 0 ? 'none is claimed yet' : fresh);
    setText(byId('tile-entries'), count(entries.count));
    const whose = !looksAt ? '' : looksAt.machine === '*' ? 'of all machines' : looksAt.machine === node?.id ? 'of this machine' : `of machine ${shortId(looksAt.machine)}`;
    setText(byId('tile-entries-note'), looksAt?.space ? `${whose}, space ${looksAt.space}` : whose);
    const [given, held] = [publications.values(), subscriptions.values()];
    const gives = given.length > 0 && held.length === 0;
    const sources = new Set(held.map((replica) => replica.source.peer)).size;
    const readers = given.reduce((sum, publication) => sum + publication.readers, 0);
    setText(byId('tile-replicas-name'), gives ? 'Publications' : 'Replicas live');
    setText(byId('tile-replicas'), gives ? count(given.length) : of(held.filter((replica) => replica.freshness === 'live').length, held.length));
    const followed = held.length === 0 ? 'no path is followed' : `copies of the paths of ${count(sources)} ${sources === 1 ? 'peer' : 'peers'}`;
    setText(byId('tile-replicas-note'), gives ? `read by ${count(readers)}` : followed);
  }

  /** What the title of the page begins with, for who looks at another one. */
  title() {
    if (this.status && ['gone', 'refused'].includes(this.status.state)) return '(gone) ';
    const pending = this.model.claims.values().filter((claim) => claim.state === 'pending').length;
    return pending > 0 ? '(claim) ' : '';
  }

  /** @param {number} now */
  renderConnection(now) {
    const { status } = this;
    if (!status) return;
    const wrong = status.state === 'gone' || status.state === 'refused';
    const words = {
      live: ['good', '● live'], connecting: ['wait', '◌ connecting'], 'catching up': ['wait', '◌ catching up'],
      gone: ['bad', '▲ out of reach'], refused: ['bad', '■ no access'], resting: ['none', '○ resting'],
    };
    const [tone, word] = words[status.state];
    const connection = byId('connection');
    setText(connection, word);
    connection.dataset.tone = tone;
    document.body.classList.toggle('wrong', wrong);
    setHidden(byId('banner'), !wrong);
    setHidden(this.retry, !wrong);
    if (!wrong) return;
    const since = `since ${clock(status.since, now)}`;
    const reason = !status.reason ? '' : status.reason === 'shut_down' ? ` ${endWords('shut_down')}` : ` (${status.reason})`;
    // No number that counts: an alert is read out each time it changes.
    setText(this.bannerText, status.state === 'refused'
      ? `The node no longer lets this page read: ${status.reason}. What is shown is from ${clock(status.since, now)}.`
      : `The node is out of reach ${since}.${reason} What is shown is from then. This page keeps trying, and will be right again by itself.`);
  }

  /** @param {number} now */
  renderNotices(now) {
    const { machines, subscriptions } = this.model;
    const notices = [];
    if (this.back && this.back.until > now) notices.push(this.back);
    const all = machines.values();
    const offline = all.filter((machine) => machine.link === 'offline');
    if (offline.length > 0) {
      const names = offline.slice(0, 3).map((machine) => `${machine.own ? 'the manager' : shortId(machine.id)} since ${clock(machine.since_ms ?? now, now)}`);
      const more = offline.length > 3 ? `, and ${offline.length - 3} more` : '';
      const whose = all.some((machine) => machine.own) ? 'The manager is offline' : `${offline.length} of ${all.length} machines ${offline.length === 1 ? 'is' : 'are'} offline`;
      notices.push({ id: 'offline', tone: 'bad', text: `▲ ${whose}: ${names.join(', ')}${more}. Reads and writes go on here, and reach the other side when it is back.` });
    }
    const notKnown = all.filter((machine) => machine.link === 'not_known');
    if (notKnown.length > 0) {
      const who = all.some((machine) => machine.own) ? 'The manager answers, and does not' : `${notKnown.slice(0, 3).map((machine) => shortId(machine.id)).join(', ')}${notKnown.length > 3 ? ` and ${notKnown.length - 3} more` : ''} ${notKnown.length === 1 ? 'answers, and does not' : 'answer, and do not'}`;
      notices.push({ id: 'not-known', tone: 'bad', text: `! ${who} know this pair: was it started without its files? Start it with its own data directory, or restore them. If they are lost, claim again, or release the pair here.` });
    }
    const twice = all.filter((machine) => machine.duplicate);
    if (twice.length > 0) notices.push({ id: 'duplicate', tone: 'bad', text: `! Another device has the same identity as ${twice.map((machine) => shortId(machine.id)).join(', ')}: a cloned disk? Give one of them a new data directory.` });
    const stale = subscriptions.values().filter((replica) => replica.stale && replica.freshness !== 'not_available');
    if (stale.length > 0) notices.push({ id: 'stale', tone: 'bad', text: `▲ ${stale.length} of ${subscriptions.values().length} replicas ${stale.length === 1 ? 'is' : 'are'} stale: ${stale.slice(0, 3).map((replica) => replica.source.path).join(', ')}.` });
    keyed(byId('notice'), notices, ({ id }) => id, () => {
      const node = el('p');
      return { node, update: ({ text, tone }) => {
        setText(node, text);
        node.dataset.tone = tone;
      } };
    });
  }
}

/** @param {number} some @param {number} all */
const of = (some, all) => (all === 0 ? '0' : `${count(some)} of ${count(all)}`);
