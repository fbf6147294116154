"""clickhouse-connect, unmodified, against the engine: create, insert, query, parameters, compression, errors, sessions, streams."""

import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import DatabaseError

host, port, password = sys.argv[1:4]


def client(**options):
    return clickhouse_connect.get_client(
        host=host, port=int(port), username="procscope", password=password, **options
    )


def refused(what, code):
    try:
        what()
    except DatabaseError as error:
        assert f"code {code}" in str(error).lower() or f"code: {code}" in str(error).lower(), error
    else:
        raise AssertionError(f"code {code} was expected")


for compress in (True, False, "lz4", "zstd", "gzip"):
    one = client(compress=compress)
    one.command("CREATE DATABASE IF NOT EXISTS connect")
    one.command("DROP TABLE IF EXISTS connect.t")
    one.command(
        "CREATE TABLE connect.t (n UInt64, name LowCardinality(String), at DateTime64(3, 'UTC'), maybe Nullable(Float64), "
        "list Array(UInt32), pairs Map(String, UInt64), id UUID) ENGINE = MergeTree ORDER BY n"
    )
    import datetime
    import uuid

    rows = [
        [n, f"näme {n % 3}", datetime.datetime.fromtimestamp(n, datetime.timezone.utc), None if n % 2 else n / 2,
         [n, n + 1], {"a": n}, uuid.UUID(int=n)]
        for n in range(10_000)
    ]
    one.insert("connect.t", rows, column_names=["n", "name", "at", "maybe", "list", "pairs", "id"])
    assert one.query("SELECT count(), sum(n), uniqExact(name) FROM connect.t").result_rows == [(10_000, 49_995_000, 3)]
    row = one.query("SELECT n, name, maybe, list, pairs, id FROM connect.t WHERE n = 4").result_rows[0]
    assert row == (4, "näme 1", 2.0, [4, 5], {"a": 4}, uuid.UUID(int=4)), row
    asked = one.query(
        "SELECT n FROM connect.t WHERE name = {name:String} AND n IN {some:Array(UInt64)} ORDER BY n",
        parameters={"name": "näme 0", "some": [1, 3, 6]},
    )
    assert asked.result_rows == [(3,), (6,)]
    with one.query_row_block_stream("SELECT number FROM numbers(300000)") as stream:
        assert sum(len(block) for block in stream) == 300_000
    with one.query_rows_stream("SELECT n FROM connect.t ORDER BY n") as stream:
        assert [row[0] for row in stream] == list(range(10_000))
    one.close()

one = client()
refused(lambda: one.query("SELECT * FROM connect.nothing"), 60)
refused(lambda: one.query("SELECT 1 FRON t WERE x"), 62)
refused(lambda: one.command("SYSTEM SHUTDOWN"), 497)
refused(lambda: one.query("SELECT throwIf(number = 200000) FROM numbers(300000)"), 395)
assert one.query("SELECT 7").result_rows == [(7,)]
# A session keeps its temporary tables and settings.
session = client(session_id="one")
session.command("CREATE TEMPORARY TABLE mine (n UInt8)")
session.insert("mine", [[1], [2]], column_names=["n"])
assert session.query("SELECT sum(n) FROM mine").result_rows == [(3,)]
refused(lambda: one.query("SELECT * FROM mine"), 60)
assert one.query("SELECT getSetting('max_threads')", settings={"max_threads": 1}).result_rows == [(1,)]
print("good")
