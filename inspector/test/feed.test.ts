import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page, Params, Summary } from "../src/api";
import { Feed, FIRST, rowsInView } from "../src/feed";

const event = (number: number, more: Partial<Summary> = {}): Summary => ({
  id: String(number).padStart(6, "0"), time: "2026-11-29T12:00:00.000Z", account: "mp/shop", platform: "mp", type: "mp.message.text",
  title: { en: "Text", zh: "文本" }, subject: null, failure: null, state: "answered", deliveries: 1, duration_ms: 3.5, has_reply: false, ...more,
});

/** A journal of so many events, of which a page can be held back. */
class Journal {
  count: number;
  asked: Params[] = [];
  constructor(count: number) {
    this.count = count;
  }
  fetch = async (params: Params): Promise<Page> => {
    this.asked.push(params);
    const end = params.before ? Number(params.before) : this.count;
    const start = Math.max(0, end - Number(params.limit));
    const events = Array.from({ length: end - start }, (_, index) => event(end - 1 - index));
    return { events, next: start > 0 ? String(start) : null };
  };
}

const ids = (feed: Feed) => feed.events.map(({ id }) => Number(id));
const isInOrder = (feed: Feed) => ids(feed).every((id, index) => index === 0 || ids(feed)[index - 1]! > id);

test("pages follow each other to the end", async () => {
  const journal = new Journal(FIRST + 210);
  const feed = new Feed({ type: "mp.*" }, journal.fetch, () => {});
  await feed.reload();
  await feed.more();
  await feed.more();
  await feed.more();
  assert.equal(feed.events.length, FIRST + 210);
  assert.equal(feed.next, null);
  assert.ok(isInOrder(feed));
  assert.deepEqual(journal.asked.map(({ before }) => before), [null, "210", "10"]);
  assert.equal(journal.asked[0]!.type, "mp.*");
});

test("what comes while the first page is read is there once, on top", async () => {
  const journal = new Journal(5);
  const feed = new Feed({}, journal.fetch, () => {});
  const loading = feed.reload();
  feed.arrive([event(4), event(5), event(6)]);
  await loading;
  assert.deepEqual(ids(feed), [6, 5, 4, 3, 2, 1, 0]);
});

test("live events are sorted in, and none comes twice", async () => {
  const feed = new Feed({}, new Journal(3).fetch, () => {});
  await feed.reload();
  feed.arrive([event(7), event(5)]);
  feed.arrive([event(6), event(5)]);
  assert.deepEqual(ids(feed), [7, 6, 5, 2, 1, 0]);
});

test("a held list stays, and shows what came when it goes on", async () => {
  const feed = new Feed({}, new Journal(3).fetch, () => {});
  await feed.reload();
  feed.hold(true);
  feed.arrive([event(3), event(4)]);
  assert.deepEqual(ids(feed), [2, 1, 0]);
  assert.equal(feed.held.length, 2);
  feed.hold(false);
  assert.deepEqual(ids(feed), [4, 3, 2, 1, 0]);
  assert.equal(feed.held.length, 0);
});

test("a flood does not fill the memory: the list starts again", async () => {
  const journal = new Journal(10);
  const feed = new Feed({}, journal.fetch, () => {});
  await feed.reload();
  feed.hold(true);
  journal.count = 3010;
  feed.arrive(Array.from({ length: 3000 }, (_, index) => event(10 + index)));
  assert.equal(feed.held.length, 1000);
  assert.ok(feed.heldMore);
  feed.hold(false);
  await new Promise((done) => setImmediate(done));
  assert.equal(feed.events.length, FIRST);
  assert.equal(ids(feed)[0], 3009);

  for (let round = 0; round < 60; round += 1) {
    const start = journal.count;
    journal.count += 100;
    feed.arrive(Array.from({ length: 100 }, (_, index) => event(start + index)));
    await new Promise((done) => setImmediate(done));
  }
  assert.ok(feed.events.length < 5200, `${feed.events.length}`);
  assert.equal(ids(feed)[0], journal.count - 1);
  assert.ok(isInOrder(feed));
});

test("newer states replace older ones", async () => {
  let drawn = 0;
  const feed = new Feed({}, async () => ({ events: [event(1, { state: "responding" })], next: null }), () => (drawn += 1));
  await feed.reload();
  assert.ok(feed.isMoving());
  feed.update([event(1), event(9)]);
  assert.equal(feed.events[0]!.state, "answered");
  assert.ok(!feed.isMoving());
  const before = drawn;
  feed.update([event(1)]);
  assert.equal(drawn, before);
});

test("an error is kept until the next try, an answer that nobody waits for is dropped", async () => {
  let fails = true;
  const feed = new Feed({}, async () => {
    if (fails) throw new Error("down");
    return { events: [event(1)], next: null };
  }, () => {});
  await feed.reload();
  assert.ok(feed.error instanceof Error);
  fails = false;
  await feed.reload();
  assert.equal(feed.error, null);
  const loading = feed.reload();
  feed.close();
  await loading;
  assert.equal(feed.events.length, 1);
});

test("only rows in view are drawn", () => {
  assert.deepEqual(rowsInView(0, 340, 34, 100_000), { first: 0, last: 22 });
  const { first, last } = rowsInView(34 * 50_000, 340, 34, 100_000);
  assert.ok(first < 50_000 && last > 50_010 && last - first < 40);
  assert.deepEqual(rowsInView(999_999, 340, 34, 3), { first: 3, last: 3 });
});
