// The model as events of the one stream change it.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Model } from '../model.js';

const TOPICS = [{ kind: 'node' }, { kind: 'machines' }, { kind: 'claims' }, { kind: 'publications' }, { kind: 'subscriptions' }, { kind: 'kv', machine: '*', space: '' }];
const HELLO = { type: 'hello', node: 'n', started_ms: 1, heartbeat_ms: 10_000 };

function model() {
  const made = new Model();
  made.lookAt({ machine: '*', space: '' });
  const tell = (event, now = 0) => made.apply(event, TOPICS, now);
  tell(HELLO);
  return { made, tell };
}
const machine = (id, more = {}) => ({ type: 'machine', topic: 1, machine: { id, own: false, skew_ms: 0, link: 'online', ...more } });
const put = (of, key, more = {}) => ({ type: 'put', topic: 5, machine: of, key, value: '1', author: 'machine', timestamp: 0, live: true, cursor: 'c', ...more });

test('a list forgets at the next stream what is not told again, and not before', () => {
  const { made, tell } = model();
  for (const id of ['a', 'b']) tell(machine(id));
  tell({ type: 'caught_up', topic: 1 });
  tell(put('a', 'k'));
  tell(put('b', 'k'));
  tell(HELLO);
  tell(machine('b'));
  assert.equal(made.machines.values().length, 2, 'the page keeps what it has until the list is whole');
  tell({ type: 'caught_up', topic: 1 });
  assert.deepEqual(made.machines.values().map(({ id }) => id), ['b']);
  assert.equal(made.entries.count, 1, 'and its entries went with it');
});

test('a machine that goes takes its entries along', () => {
  const { made, tell } = model();
  tell(machine('a'));
  tell(put('a', 'k'));
  tell({ type: 'gone', topic: 1, machine: 'a' });
  tell({ type: 'gone', topic: 5, machine: 'a' });
  assert.deepEqual([made.machines.values().length, made.entries.count], [0, 0]);
});

test('only what changed is drawn again', () => {
  const { made, tell } = model();
  made.takeChanged();
  tell(put('a', 'k', { live: false }));
  assert.deepEqual([...made.takeChanged()], ['entries']);
  tell({ type: 'publication', topic: 3, publication: { agent: 'main', path: '/p' } });
  assert.deepEqual([...made.takeChanged()], ['paths']);
  assert.equal(made.takeChanged().size, 0);
});

test('latency is measured against the clock of the one who wrote', () => {
  const { made, tell } = model();
  tell({ type: 'heartbeat', now_ms: 1_000_000 }, 1_000_003);
  tell(machine('fast', { skew_ms: 7_200_000 }));
  tell(machine('unknown', { skew_ms: null }));
  tell(put('fast', 'k', { timestamp: 1_000_010 + 7_200_000 }), 1_000_022);
  tell(put('fast', 'k', { author: 'manager', timestamp: 1_000_010 }), 1_000_040);
  tell(put('unknown', 'k', { timestamp: 5 }), 1_000_050);
  const [point] = made.series.points(1_001_000, 1);
  assert.deepEqual([point.count, point.median, point.worst], [3, 12, 30]);
});

test('a page on another device, with another clock, measures by the node’s', () => {
  const { made, tell } = model();
  tell({ type: 'heartbeat', now_ms: 0 }, 60_000);
  tell(machine('a'));
  assert.equal(made.latency({ machine: 'a', author: 'machine', timestamp: 10 }, 60_020), 10);
});

test('events of the machine that was looked at before change nothing', () => {
  const { made, tell } = model();
  made.lookAt({ machine: 'b', space: '' });
  tell(put('a', 'k'));
  assert.equal(made.entries.count, 0);
});

test('a released machine ends its entries with the reason', () => {
  const made = new Model();
  const topics = [{ kind: 'kv', machine: 'a', space: '' }];
  made.lookAt({ machine: 'a', space: '' });
  made.apply(put('a', 'k', { topic: 0 }), topics, 0);
  made.apply({ type: 'ended', reason: 'released', topic: 0 }, topics, 0);
  assert.deepEqual([made.entries.count, made.looksAt.ended], [0, 'released']);
});

test('an event of a kind from a later version is passed over', () => {
  const { made, tell } = model();
  tell({ type: 'eclipse', topic: 5, machine: 'a' });
  tell({ type: 'eclipse', topic: 17 });
  assert.equal(made.entries.count, 0);
});

test('what is held of machines that went while the page was away goes when all have caught up', () => {
  const { made, tell } = model();
  tell(put('a', 'k'));
  tell(put('b', 'k'));
  tell({ type: 'caught_up', topic: 5, machines: ['b'] });
  made.entries.settle(0);
  assert.deepEqual(made.entries.visible.map((row) => row.machine), ['b']);
});

test('how long something has lasted is right, whoever sets the node’s clock', () => {
  const model = new Model();
  const [page, node] = [1_000_000, 100];
  model.apply(HELLO, TOPICS, page);
  const away = (sinceMs, nowMs) => ({ ...machine('a', { link: 'offline', since_ms: sinceMs, current: false, current_at_ms: sinceMs - 5, undelivered_since_ms: null }), now_ms: nowMs });
  model.apply(away(node - 2_000, node), TOPICS, page);
  const since = () => model.machines.get('a').since_ms;
  assert.equal(page - since(), 2_000);
  assert.equal(model.machines.get('a').undelivered_since_ms, null);
  // The node's clock is set: what was said stays right, and so is what is said by the new clock.
  const set = 1_800_000_000_000;
  model.apply({ type: 'heartbeat', now_ms: set }, TOPICS, page + 3_000);
  assert.equal(page + 3_000 - since(), 5_000);
  assert.equal(model.offset, page + 3_000 - set, 'the node’s clock is known as it is now');
  model.apply(away(set - 4_000, set + 1_000), TOPICS, page + 4_000);
  assert.equal(page + 4_000 - since(), 5_000);
});
