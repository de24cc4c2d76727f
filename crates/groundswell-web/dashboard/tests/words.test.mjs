// What the page says in words of what a node says in figures.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { delivery, pairingWords, readersWords } from '../words.js';

test('readers are behind when they lack more than has come within a second', () => {
  const of = (reader_lag, waves_per_second) => readersWords({ readers: 3, reader_lag, waves_per_second });
  assert.equal(of(0, null), '3');
  assert.equal(of(0, 20), '3');
  assert.equal(of(20, 20), '3', 'those are on their way');
  assert.match(of(1200, 20), /^3, 1.?200 behind$/);
  assert.equal(of(2, 0), '3, 2 behind');
});

test('what is on its way for long is told with how long', () => {
  const well = { undelivered_since_ms: null, agreed: true, overruled: 0 };
  assert.equal(delivery(well, 10_000), '');
  assert.equal(delivery({ ...well, undelivered_since_ms: 4_000 }, 10_000), '! not delivered: what was written here 6 s ago');
  assert.equal(delivery({ ...well, agreed: false }, 10_000), '! this side went back in time: nothing counts as delivered before both have agreed');
  assert.equal(delivery({ ...well, overruled: 2 }, 10_000), '! this side went back in time: 2 of its writes lost to later ones that came back');
});

test('whether a machine takes claims is told, until when, and who has claimed it in vain', () => {
  const told = { open: false, open_ms: null, ticket_ms: null, attempts_left: 20, in_vain: [], told_ms: 1_000 };
  assert.match(pairingWords(told, 1_000).said, /^Closed: /);
  const timed = { ...told, open: true, open_ms: 120_000 };
  assert.deepEqual(pairingWords(timed, 61_000), { said: 'Open for claims for 1 min 0 s.', open: true, timed: true });
  // Its time is over before that is told.
  assert.equal(pairingWords(timed, 121_000).open, false);
  assert.deepEqual(pairingWords({ ...told, open: true }, 1_000).timed, false);
  assert.match(pairingWords({ ...told, open: true }, 1_000).said, /while somebody waits/);
  assert.match(pairingWords({ ...told, ticket_ms: 5_000 }, 2_000).said, /one-time secret is good/);
  assert.doesNotMatch(pairingWords({ ...told, ticket_ms: 5_000 }, 6_000).said, /one-time secret/);
  const vain = { ...told, attempts_left: 0, in_vain: [{ manager: 'a'.repeat(64), claims: 5 }, { manager: 'b'.repeat(64), claims: 1 }] };
  assert.match(pairingWords(vain, 1_000).said, /Claims in vain: 5 by aaaaaaaa, 1 by bbbbbbbb; no more are taken/);
});
