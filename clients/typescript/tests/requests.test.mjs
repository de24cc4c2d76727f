// Get, set, delete and list, of any bytes.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Groundswell, GroundswellError } from '../dist/index.js';
import { onMock } from './helper.mjs';

test('a value is set, read and deleted', onMock({}, async ({ node, machine }) => {
  assert.equal(await node.getKvValue(machine, 'price/tea'), null);
  const set = await node.setKvValue(machine, 'price/tea', '1.80');
  assert.deepEqual([set.key.text, set.value.text, set.author], ['price/tea', '1.80', 'manager']);
  const got = await node.getKvValue(machine, 'price/tea');
  assert.deepEqual(got, set);
  assert.equal(await node.deleteKvValue(machine, 'price/tea'), true);
  assert.equal(await node.deleteKvValue(machine, 'price/tea'), false);
  assert.equal(await node.getKvValue(machine, 'price/tea'), null);
}));

test('whether all is delivered is told', onMock({}, async ({ node, mock, machine }) => {
  assert.equal(await node.isDelivered(machine, 10), true);
  mock.setMachine(machine, { undelivered_since_ms: Date.now() });
  assert.equal(await node.isDelivered(machine), false);
}));

test('every byte goes there and back, in keys and in values', onMock({}, async ({ node, machine }) => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  await node.setKvValue(machine, all, all);
  const got = await node.getKvValue(machine, all);
  assert.deepEqual([...got.key.bytes], [...all]);
  assert.deepEqual([...got.value.bytes], [...all]);
  assert.equal(got.value.text, null);
  for await (const entry of node.getKvEntries(machine)) assert.deepEqual([...entry.key.bytes], [...all]);
  await node.setKvValue(machine, '', '');
  assert.equal((await node.getKvValue(machine, '')).value.text, '');
}));

test('a list has every entry once, over several pages, in the order of the bytes', onMock({ entries: 2500 }, async ({ node, machine }) => {
  const keys = [];
  for await (const entry of node.getKvEntries(machine)) keys.push(entry.key.text);
  assert.equal(keys.length, 2500);
  assert.deepEqual(keys, [...new Set(keys)].sort());
}));

test('a filter goes with the request', onMock({ entries: 12 }, async ({ node, machine }) => {
  const keys = async (filter) => {
    const found = [];
    for await (const entry of node.getKvEntries(machine, filter)) found.push(entry.key.text);
    return found;
  };
  assert.deepEqual(await keys({ prefixes: ['price/'] }), ['price/chocolate', 'price/espresso', 'price/tea', 'price/water']);
  assert.deepEqual(await keys({ start: 'sold/t', end: 'stock/d', keys: ['price/tea'] }), ['price/tea', 'sold/tea', 'sold/water', 'stock/chocolate']);
  assert.deepEqual(await keys({ prefixes: ['price/', 'sold/w'], author: 'machine' }), ['sold/water']);
}));

test('a refusal says its kind, and an unknown machine is not a missing entry', onMock({}, async ({ node }) => {
  await assert.rejects(node.getKvValue('ff'.repeat(32), 'a'), (error) => {
    assert.ok(error instanceof GroundswellError);
    assert.deepEqual([error.status, error.kind, error.isTemporary], [404, 'unknown-machine', false]);
    return true;
  });
}));

test('the token goes with every request, the stream’s too', onMock({}, async ({ machine, url }) => {
  const seen = [];
  const watching = (address, init) => {
    seen.push(init.headers.authorization);
    return fetch(address, init);
  };
  const node = new Groundswell({ url, token: 'secret\n', fetch: watching });
  await node.setKvValue(machine, 'a', '1');
  for await (const event of node.watchKvKey(machine, 'a')) if (event.type === 'caught_up') break;
  assert.deepEqual(seen, ['Bearer secret', 'Bearer secret']);
}));

test('an address with a path of its own is kept', () => {
  const asked = [];
  const node = new Groundswell({ url: 'http://host/fleet/', fetch: async (url) => (asked.push(String(url)), Response.json({ machines: [] })) });
  return node.machines().then(() => assert.deepEqual(asked, ['http://host/fleet/api/v1/machines']));
});

test('an id goes with a write, and a write of which nobody knows is not to be tried again as it is', async () => {
  const seen = [];
  const refusing = (status, kind) => async (_address, init) => {
    seen.push(init.headers['idempotency-key']);
    const problem = { type: `urn:groundswell:problem:${kind}`, title: '', status, detail: kind };
    return new Response(JSON.stringify(problem), { status });
  };
  const of = (status, kind) => new Groundswell({ url: 'http://localhost/', fetch: refusing(status, kind) });
  const kinds = [[500, 'outcome-unknown', true, false], [500, 'storage', false, true], [409, 'id-reused', false, false]];
  for (const [status, kind, unknown, temporary] of kinds) {
    const writes = [
      () => of(status, kind).setKvValue('self', 'a', '1', '', { id: 'sale-1' }),
      () => of(status, kind).deleteKvValue('self', 'a', '', { id: 'sale-1' }),
    ];
    for (const write of writes) {
      await assert.rejects(write(), (error) => {
        assert.deepEqual([error.kind, error.isOutcomeUnknown, error.isTemporary], [kind, unknown, temporary]);
        return true;
      });
    }
  }
  assert.deepEqual(seen, Array(6).fill('sale-1'));
});
