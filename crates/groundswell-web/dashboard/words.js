// The words on the screen, from what the node says. Each state has a word and a sign: none is told by colour alone.

/** @typedef {{word: string, sign: string, tone: 'good'|'wait'|'bad'|'none', detail: string}} Standing */

/** @param {string} id @returns {string} */
export const shortId = (id) => id.slice(0, 8);

/** @param {number} ms Since 1970. @returns {string} The time of day here; with the date if it is another day. */
export function clock(ms, now = Date.now()) {
  const date = new Date(ms);
  const time = date.toLocaleTimeString('en-GB');
  return date.toDateString() === new Date(now).toDateString() ? time : `${date.toLocaleDateString('en-GB')} ${time}`;
}

/** @param {number} ms @returns {string} */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

/** @param {any} machine @param {number} now By the page's clock. @returns {Standing} */
export function link(machine, now) {
  const detail = machine.problem ?? '';
  switch (machine.link) {
    case 'online':
      return { word: 'online', sign: '●', tone: 'good', detail };
    case 'offline': {
      const since = machine.since_ms === null ? '' : `since ${clock(machine.since_ms)}, for ${span(now - machine.since_ms)}`;
      return { word: 'offline', sign: '▲', tone: 'bad', detail: [since, detail].filter(Boolean).join('; ') };
    }
    case 'not_known': {
      const since = machine.since_ms === null ? '' : `since ${clock(machine.since_ms)}, for ${span(now - machine.since_ms)}`;
      return { word: 'does not know this pair', sign: '!', tone: 'bad', detail: [since, detail].filter(Boolean).join('; ') };
    }
    case 'connecting':
      return { word: 'connecting', sign: '◌', tone: 'wait', detail };
    case 'released':
      return { word: 'released', sign: '■', tone: 'none', detail };
    default:
      return { word: 'not claimed', sign: '○', tone: 'none', detail };
  }
}

/** How fresh a machine's entries are. @param {any} machine @param {number} now @returns {Standing} */
export function currency(machine, now) {
  if (machine.link === 'unclaimed') return { word: 'own entries', sign: '○', tone: 'none', detail: '' };
  if (machine.current) return { word: 'caught up', sign: '✓', tone: 'good', detail: '' };
  if (machine.current_at_ms === null) return { word: 'never caught up', sign: '…', tone: 'wait', detail: '' };
  return { word: 'stale', sign: '!', tone: 'bad', detail: `caught up until ${clock(machine.current_at_ms)}, ${span(now - machine.current_at_ms)} ago` };
}

/** Whether what was written on this node is at the other side. @param {any} machine @param {number} now @returns {string} */
export function delivery(machine, now) {
  const since = machine.undelivered_since_ms;
  if (!machine.agreed) return '! this side went back in time: nothing counts as delivered before both have agreed';
  if (machine.overruled > 0) return `! this side went back in time: ${machine.overruled} of its writes lost to later ones that came back`;
  return since === null ? '' : `! not delivered: what was written here ${span(now - since)} ago`;
}

/**
 * Whether a machine takes claims, and who has claimed it in vain.
 * @param {any} pairing With `told_ms`, when it was told. @param {number} now @returns {{said: string, open: boolean, timed: boolean}}
 */
export function pairingWords(pairing, now) {
  const left = pairing.open_ms === null ? null : pairing.open_ms - (now - pairing.told_ms);
  const timed = left !== null && left > 0;
  const open = timed || (pairing.open && pairing.open_ms === null);
  const words = [timed ? `Open for claims for ${span(left)}.` : open ? 'Open for claims while somebody waits for one.' : 'Closed: a manager can claim this machine only while pairing is open.'];
  if (pairing.ticket_ms !== null && pairing.ticket_ms > now - pairing.told_ms) words.push('Its ticket with a one-time secret is good.');
  const inVain = pairing.in_vain.map((/** @type {any} */ one) => `${one.claims} by ${shortId(one.manager)}`);
  if (inVain.length > 0) words.push(`Claims in vain: ${inVain.join(', ')}${pairing.attempts_left === 0 ? '; no more are taken until pairing is opened again' : ''}.`);
  return { said: words.join(' '), open, timed };
}

/** @param {number|null} skew In milliseconds. @returns {{text: string, bad: boolean}} */
export function skewWords(skew) {
  if (skew === null) return { text: 'not known', bad: false };
  const size = Math.abs(skew);
  if (size < 1000) return { text: `${size} ms${skew === 0 ? '' : skew > 0 ? ' ahead' : ' behind'}`, bad: false };
  return { text: `${span(size).replace(/ 0 (min|s|h)$/, '')} ${skew > 0 ? 'ahead' : 'behind'}`, bad: size >= 2000 };
}

/** @param {any} replica @param {number} now @returns {Standing} */
export function freshness(replica, now) {
  const detail = [replica.detail, replica.since_ms === null ? '' : `since ${clock(replica.since_ms)}`].filter(Boolean).join('; ');
  /** @type {Record<string, [string, string, Standing['tone']]>} */
  const words = {
    live: ['live', '●', 'good'],
    connecting: ['connecting', '◌', 'wait'],
    offline: ['offline', '▲', 'bad'],
    not_available: ['not available', '○', 'wait'],
    killed: ['killed', '■', 'bad'],
    refused: ['refused', '■', 'bad'],
    unusable: ['unusable', '■', 'bad'],
    diverged: ['diverged', '!', 'bad'],
  };
  const [word, sign, tone] = words[replica.freshness] ?? [replica.freshness, '?', 'none'];
  return { word, sign, tone, detail: replica.freshness === 'live' ? '' : detail };
}

/** @param {number|null} lag In milliseconds. @returns {string} */
export function lagWords(lag) {
  if (lag === null) return 'never caught up';
  return lag === 0 ? 'none' : span(lag);
}

/**
 * How many read it, and how many waves the slowest of them is behind, where those are more than come in a second: fewer
 * are on their way.
 * @param {any} item @returns {string}
 */
export function readersWords(item) {
  const behind = item.reader_lag > (item.waves_per_second ?? 0);
  return behind ? `${count(item.readers)}, ${count(item.reader_lag)} behind` : count(item.readers);
}

/** @param {any} rule @returns {string} */
export function ruleWords(rule) {
  if (!rule) return '–';
  const rocks = rule.frequency === 'auto' ? 'rocks: automatic' : rule.frequency === 'never' ? 'no rocks' : `a rock every ${count(rule.frequency)} waves`;
  return `${rocks}; ${rule.horizon === null ? 'every wave kept' : `horizon ${count(rule.horizon)}`}`;
}

/** @param {any} access @returns {string} */
export function accessWords(access) {
  if (Array.isArray(access)) return access.length === 1 ? `only ${shortId(access[0])}` : `only ${access.length} peers`;
  return access ?? '–';
}

/** @param {number|null} rate @returns {string} */
export function rateWords(rate) {
  if (rate === null) return '–';
  return `${rate >= 10 || rate === 0 ? Math.round(rate) : rate.toFixed(1)}/s`;
}

/** @param {number} number @returns {string} With thin groups of three. */
export const count = (number) => number.toLocaleString('en-GB');

/** Why entries are no longer followed. @param {string} reason @returns {string} */
export function endWords(reason) {
  /** @type {Record<string, string>} */
  const words = {
    released: 'This machine was released.', shut_down: 'The node was shut down.', storage: 'The node cannot read its storage.',
    quit: 'This source is no longer followed.', killed: 'This path was killed; it may begin again by itself.',
    'no-state': 'Nothing is published here any more.',
    not_available: 'This path is not available here. It begins by itself when it is.',
  };
  return words[reason] ?? `This ended: ${reason}.`;
}
