// The machines, their status and freshness; claiming them by PIN, and releasing them.

import { answerClaim, beginClaim, closePairing, openPairing, release } from './api.js';
import { confirmed } from './confirm.js';
import { byId, copyButton, el, keyed, markId, say, setHidden, setStanding, setText } from './dom.js';
import { clock, count, currency, delivery, link, pairingWords, shortId, skewWords } from './words.js';

/** How long a claim that has ended is shown, in milliseconds. */
const ENDED_CLAIM_MS = 5 * 60_000;

export class MachinesView {
  /** @param {import('./model.js').Model} model @param {{look: (machine: string) => void}} does */
  constructor(model, does) {
    this.model = model;
    this.does = does;
    byId('claim-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.claim();
    });
    byId('pairing-open').addEventListener('click', () => this.pair(openPairing));
    byId('pairing-close').addEventListener('click', () => this.pair(closePairing));
  }

  /** @param {() => Promise<any>} how */
  async pair(how) {
    const error = byId('pairing-error');
    setText(error, '');
    try {
      await how();
    } catch (refused) {
      setText(error, `Not done: ${/** @type {Error} */ (refused).message}.`);
    }
  }

  async claim() {
    /** @type {HTMLInputElement} */
    const input = byId('ticket');
    const error = byId('claim-error');
    setText(error, '');
    const ticket = input.value.trim();
    if (!ticket) {
      setText(error, 'Paste the ticket of the machine first.');
      return input.focus();
    }
    try {
      const claim = await beginClaim(ticket);
      input.value = '';
      say(`PIN ${[...claim.pin].join(' ')}. Compare it with the machine's.`);
    } catch (refused) {
      setText(error, `Not claimed: ${/** @type {Error} */ (refused).message}.`);
    }
  }

  /** @param {number} now */
  render(now) {
    const { model } = this;
    const machines = model.machines.values();
    const own = machines.some((machine) => machine.own);
    setText(byId('machines-summary'), own ? 'This machine, and the manager that has claimed it.' : machines.length > 1 ? 'Choose one to see its entries alone.' : '');
    keyed(byId('machines-body'), machines, ({ id }) => id, (machine) => this.row(machine));
    for (const [id, { update }] of this.rows) {
      if (model.machines.get(id)) update(now);
      else this.rows.delete(id);
    }
    const none = byId('machines-none');
    setHidden(none, machines.length > 0 || !model.machines.caughtUp);
    setText(none, 'No machine is claimed yet. Paste the ticket that a machine shows, and compare the PINs.');
    if (model.pairing) {
      const { said, open, timed } = pairingWords(model.pairing, now);
      setText(byId('pairing-said'), said);
      setText(byId('pairing-open'), open ? 'Open it longer' : 'Open pairing');
      setHidden(byId('pairing-close'), !timed);
    }
    this.renderClaims(now);
  }

  /** @type {Map<string, {update: (now: number) => void}>} */
  rows = new Map();

  /** @param {any} first */
  row(first) {
    const id = first.id;
    const [status, fresh, skew, keys, detail, freshDetail, undelivered] = ['span', 'span', 'span', 'span', 'small', 'small', 'small'].map((tag) => el(tag));
    undelivered.dataset.tone = 'bad';
    status.className = fresh.className = 'standing';
    const name = el('button', { class: 'link', text: first.own ? 'this machine' : shortId(id), title: id, attrs: { type: 'button', 'aria-label': `Entries of machine ${shortId(id)}` }, on: { click: () => this.does.look(id) } });
    const manager = el('small', {});
    markId(name, id);
    const releaseButton = el('button', { class: 'small', text: 'Release…', attrs: { type: 'button', 'aria-label': `Release machine ${shortId(id)}` }, on: { click: () => this.release(id) } });
    /** @param {string} label @param {...Node} children */
    const cell = (label, ...children) => el('td', { class: label === 'Clock skew' || label === 'Keys used' ? 'amount' : '', attrs: { 'data-label': label } }, ...children);
    const node = el('tr', {}, el('th', { attrs: { scope: 'row', 'data-label': 'Machine' } }, name, manager), cell('Status', status, detail, undelivered), cell('Freshness', fresh, freshDetail), cell('Clock skew', skew), cell('Keys used', keys), cell('', releaseButton));
    let machine = first;
    this.rows.set(id, { update: (now) => {
      const linked = link(machine, now);
      const current = currency(machine, now);
      setStanding(status, linked);
      setStanding(fresh, current);
      setText(detail, linked.detail);
      setText(freshDetail, current.detail);
      setText(undelivered, delivery(machine, now));
      const words = skewWords(machine.skew_ms);
      setText(skew, words.bad ? `! ${words.text}` : words.text);
      skew.dataset.tone = words.bad ? 'bad' : 'none';
      setText(keys, count(machine.keys_used));
      setText(manager, !machine.own ? (machine.duplicate ? '! duplicate identity' : '') : machine.manager ? `manager ${shortId(machine.manager)}` : 'no manager yet');
      setHidden(releaseButton, machine.link === 'unclaimed' || (machine.own && !machine.manager));
      const looked = this.model.looksAt?.machine === id;
      if (looked) name.setAttribute('aria-current', 'true');
      else name.removeAttribute('aria-current');
    } });
    return { node, update: (/** @type {any} */ next) => { machine = next; } };
  }

  /** @param {string} id */
  async release(id) {
    const own = this.model.machines.get(id)?.own;
    const text = own
      ? 'Its manager can no longer read or write it. The machine goes on with a new, empty document.'
      : 'What this manager holds of it is deleted. The machine goes on with a new document that this manager cannot read.';
    const title = own ? 'Release this machine from its manager?' : `Release machine ${shortId(id)}?`;
    if (await confirmed({ title, text, action: 'Release', run: () => release(id) })) {
      say(`Machine ${shortId(id)} is released.`);
      // The button that was pressed has gone with its row.
      byId('machines-title').focus();
    }
  }

  /** @param {number} now */
  renderClaims(now) {
    const claims = this.model.claims.values().filter((claim) => ['pending', 'answered'].includes(claim.state) || now - claim.begun_ms < ENDED_CLAIM_MS).reverse();
    setHidden(byId('claims'), claims.length === 0);
    keyed(byId('claims-list'), claims, ({ claim }) => String(claim), (claim) => this.claimCard(claim));
    const pending = claims.find((claim) => claim.state === 'pending');
    if (pending && this.announced !== pending.claim) {
      this.announced = pending.claim;
      say(`A claim is waiting. PIN ${[...pending.pin].join(' ')}.`);
    }
  }

  /** @type {number|null} */
  announced = null;

  /** @param {any} first */
  claimCard(first) {
    const title = el('h3');
    const pin = el('p', { class: 'pin' }, el('span', { class: 'unseen', text: `PIN ${[...first.pin].join(' ')}` }), el('span', { text: `${first.pin.slice(0, 3)} ${first.pin.slice(3)}`, attrs: { 'aria-hidden': 'true' } }));
    const text = el('p');
    const error = el('p', { class: 'error', attrs: { role: 'alert' } });
    const yes = el('button', { text: 'The same: confirm', attrs: { type: 'button' } });
    const no = el('button', { class: 'danger', text: 'Not the same: decline', attrs: { type: 'button' } });
    const buttons = el('div', { class: 'buttons' }, no, yes);
    const node = el('li', { attrs: { tabindex: '-1' } }, title, pin, text, error, buttons);
    const answer = async (/** @type {boolean} */ same) => {
      setText(error, '');
      for (const button of [yes, no]) button.setAttribute('disabled', '');
      // The buttons go when the answer is there, and would take the focus with them.
      node.focus();
      try {
        await answerClaim(first.claim, same);
      } catch (refused) {
        setText(error, `${/** @type {Error} */ (refused).message}.`);
        for (const button of [yes, no]) button.removeAttribute('disabled');
      }
    };
    yes.addEventListener('click', () => answer(true));
    no.addEventListener('click', () => answer(false));
    const manager = this.model.node?.role === 'manager';
    return { node, update: (/** @type {any} */ claim) => {
      const other = manager ? `machine${claim.machine ? ` ${shortId(claim.machine)}` : ''}` : `manager${claim.manager ? ` ${shortId(claim.manager)}` : ''}`;
      /** @type {Record<string, [string, string]>} */
      const words = {
        pending: [manager ? `Claiming a ${other}` : 'A manager claims this machine', `Compare this PIN with the one that the ${manager ? 'machine' : 'manager'} shows. Confirm only if all six digits are the same; both sides have to.`],
        answered: ['Waiting for the other side', `The ${manager ? 'machine' : 'manager'} has to confirm too, within a minute.`],
        claimed: ['Claimed', `${manager ? `The ${other} is this manager's now.` : `This machine belongs to ${other} now.`} (${clock(claim.begun_ms)})`],
        refused: ['Declined', `Nothing was changed. (${clock(claim.begun_ms)})`],
        failed: ['The claim failed', `${claim.reason ?? 'Nothing was changed.'} (${clock(claim.begun_ms)})`],
      };
      const [head, said] = words[claim.state] ?? [claim.state, ''];
      setText(title, head);
      setText(text, said);
      node.dataset.state = claim.state;
      setHidden(buttons, claim.state !== 'pending');
      setHidden(pin, !['pending', 'answered'].includes(claim.state));
    } };
  }
}

/** A metric's name and value in words; times in milliseconds. @param {string} name @param {any} value */
function metric(name, value) {
  const words = name.replaceAll('_', ' ');
  return words.endsWith(' nanoseconds') ? [words.replace(/ nanoseconds$/, ''), `${(Number(value) / 1e6).toFixed(1)} ms`] : [words, count(value)];
}

/** The node itself. @param {any} node @param {number} now */
export function renderNode(node, now) {
  const facts = [
    ['Id', node.id, 'id'], ['Ticket, by which others reach this node', node.ticket, 'ticket'], ['Version', node.version], ['Up since', `${clock(node.started_ms)}`],
    ['Connected peers', node.peers.length === 0 ? 'none' : node.peers.map(shortId).join(', ')],
    ['HTTP', `connections: ${count(node.http.connections)}, streams: ${count(node.http.streams)}, requests refused: ${count(node.http.refused)}`],
  ];
  renderFacts(byId('node-facts'), facts);
  renderFacts(byId('node-metrics'), Object.entries(node.metrics).map(([name, value]) => metric(name, value)));
}

/** @param {HTMLElement} list @param {string[][]} facts Name, value, and what it is called where it is long and can be copied. */
function renderFacts(list, facts) {
  keyed(list, facts, ([name]) => name, ([name, , copied]) => {
    const said = el('span', { class: copied ? 'mono' : '' });
    const held = el('dd', {}, said);
    if (copied) held.append(' ', copyButton(said, copied));
    return { node: el('div', { class: copied ? 'long' : '' }, el('dt', { text: name }), held), update: ([, next]) => setText(said, next) };
  });
}
