// @clickhouse/client, unmodified, against the engine: create, insert, query, parameters, compression, errors, sessions,
// streams.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const [url, password, folder] = process.argv.slice(2);
const { createClient, ClickHouseError } = createRequire(`${folder}/`)('@clickhouse/client');
const connect = (options) => createClient({ url, username: 'procscope', password, ...options });
const refused = (what, code) =>
    assert.rejects(what, (error) => error instanceof ClickHouseError && error.code === code);

for (const both of [true, false]) {
    const client = connect({ compression: { request: both, response: both } });
    assert.ok((await client.ping()).success);
    await client.command({ query: 'CREATE DATABASE IF NOT EXISTS node' });
    await client.command({ query: 'DROP TABLE IF EXISTS node.t' });
    await client.command({
        query: "CREATE TABLE node.t (n UInt32, name String, at DateTime64(3, 'UTC'), list Array(UInt32)) "
            + 'ENGINE = MergeTree ORDER BY n',
        clickhouse_settings: { wait_end_of_query: 1 },
    });
    const values = Array.from({ length: 10_000 }, (_, n) => ({
        n, name: `näme ${n % 3}\n\n`, at: '2026-11-22 10:00:00.123', list: [n, n + 1],
    }));
    await client.insert({ table: 'node.t', values, format: 'JSONEachRow' });
    const counted = await client.query({ query: 'SELECT count() AS c, sum(n) AS s FROM node.t', format: 'JSONEachRow' });
    assert.deepEqual(await counted.json(), [{ c: 10000, s: 49995000 }]);
    const asked = await client.query({
        query: 'SELECT n FROM node.t WHERE name = {name:String} AND n IN {some:Array(UInt32)} ORDER BY n',
        query_params: { name: 'näme 0\n\n', some: [1, 3, 6] },
        format: 'JSONCompactEachRow',
    });
    assert.deepEqual(await asked.json(), [[3], [6]]);
    const whole = await (await client.query({ query: 'SELECT n, list FROM node.t WHERE n = 2', format: 'JSON' })).json();
    assert.deepEqual(whole.data, [{ n: 2, list: [2, 3] }]);
    assert.equal(whole.rows, 1);
    const streamed = await client.query({ query: 'SELECT number FROM numbers(300000)', format: 'JSONCompactEachRow' });
    let rows = 0;
    for await (const block of streamed.stream()) rows += block.length;
    assert.equal(rows, 300_000);
    const csv = await client.query({ query: 'SELECT n, name FROM node.t ORDER BY n LIMIT 2', format: 'CSVWithNames' });
    assert.match(await csv.text(), /^"n","name"\n0,"näme 0\n\n"\n1,/);
    await client.close();
}

const client = connect({});
await refused(client.query({ query: 'SELECT * FROM node.nothing' }), '60');
await refused(client.query({ query: 'SELECT 1 FRON t WERE x' }), '62');
await refused(client.command({ query: 'SYSTEM SHUTDOWN' }), '497');
await refused(connect({ password: 'wrong' }).query({ query: 'SELECT 1' }), '516');
await refused(client.query({ query: 'SELECT 1', clickhouse_settings: { no_such_setting: 1 } }), '115');
const session = connect({ session_id: 'node-session' });
await session.command({ query: 'CREATE TEMPORARY TABLE mine (n UInt8)' });
await session.insert({ table: 'mine', values: [{ n: 1 }, { n: 2 }], format: 'JSONEachRow' });
const sum = await session.query({ query: 'SELECT sum(n) AS s FROM mine', format: 'JSONCompactEachRow' });
assert.equal(Number((await sum.json())[0][0]), 3);
// What is given up is stopped in the engine.
const aborting = new AbortController();
const long = client.query({
    query: 'SELECT count() FROM numbers(1000000000000)', query_id: 'given-up', abort_signal: aborting.signal,
});
setTimeout(() => aborting.abort(), 300);
await assert.rejects(long);
const deadline = Date.now() + 30_000;
for (;;) {
    const running = await client.query({
        query: "SELECT count() AS c FROM system.processes WHERE query LIKE '%1000000000000%' AND query NOT LIKE '%system%'",
        format: 'JSONCompactEachRow',
    });
    if (Number((await running.json())[0][0]) === 0) break;
    assert.ok(Date.now() < deadline, 'the engine still runs what nobody waits for');
    await new Promise((resolve) => setTimeout(resolve, 50));
}
console.log('good');
process.exit(0);
