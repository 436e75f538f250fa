import asyncio
import os
import re
import typing
import unittest
from concurrent.futures import ThreadPoolExecutor

import postrider
from kit import ACCEPTED, INBOXES, KEY, PROBLEM, Script, counts, page


class ClientTest(unittest.TestCase):
    def script(self, *replies):
        return Script(self.id(), *replies)

    def test_delivers_exact_bytes(self):
        answer = postrider.Client().deliver(os.environ["KIT_EXACT"], key=KEY, inboxes=INBOXES)
        self.assertEqual(len(INBOXES), answer["accepted"])
        self.assertEqual(len(INBOXES), counts(answer)["delivered"])

    def test_text_bytes_and_mappings(self):
        script = self.script(ACCEPTED, ACCEPTED, ACCEPTED)
        for activity in ('{"id": 1.50}', b'{"id": 1.50}', {"id": "ü"}):
            script.client().deliver(activity, key_id="k", inboxes={"i"})
        rest = '"key_id": "k", "inboxes": ["i"]}'
        want = ['{"activity":{"id": 1.50},' + rest] * 2 + ['{"activity":{"id": "\\u00fc"},' + rest]
        self.assertEqual(want, [call["body"] for call in script.calls()])

    def test_an_idempotency_key_delivers_once(self):
        activity = {"id": "https://app.example/a/python/once", "type": "Like"}
        call = {"key": KEY, "inboxes": INBOXES, "idempotency_key": "python-once"}
        client = postrider.Client()
        self.assertEqual(client.deliver(activity, **call), client.deliver(activity, **call))
        with self.assertRaises(postrider.Error) as caught:
            client.deliver(activity, priority="low", **call)
        self.assertTrue(caught.exception.idempotency_mismatch)
        self.assertFalse(caught.exception.temporary)

    def test_no_inbox_accepted_is_no_error(self):
        activity = {"id": "https://app.example/a/python/none", "type": "Like"}
        answer = postrider.Client().deliver(activity, key=KEY, inboxes=["https://10.0.0.1/inbox"])
        self.assertEqual(0, answer["accepted"])
        self.assertEqual([("https://10.0.0.1/inbox", "private_address")], [(r["inbox"], r["reason"]) for r in answer["rejected"]])

    def test_keys(self):
        client = postrider.Client()
        key_id = "https://app.example/users/python#main-key"
        client.put_key(key_id, KEY["private_key_pem"])
        self.assertIn(key_id, [key["key_id"] for key in client.keys()])
        client.delete_key(key_id)
        self.assertNotIn(key_id, [key["key_id"] for key in client.keys()])
        script = self.script({"status": 202})
        script.client().delete_key(key_id, when_idle=True)
        want = "/v1/keys?key_id=https%3A%2F%2Fapp.example%2Fusers%2Fpython%23main-key&when=idle"
        self.assertEqual(want, script.calls()[0]["uri"])

    def test_hosts(self):
        client = postrider.Client()
        self.assertEqual("blocked", client.host_action("python.example", "block")["state"])
        self.assertEqual(["python.example"], [host["host"] for host in client.hosts(state="blocked", q="python.")])
        client.host_action("python.example", "unblock")
        self.assertEqual("healthy", client.host("python.example")["state"])

    def test_lists_have_pages(self):
        script = self.script(page({"host": "a"}, next_cursor="c"), page({"host": "b"}))
        self.assertEqual(["a", "b"], [host["host"] for host in script.client().hosts()])
        self.assertEqual(["/v1/hosts?limit=500", "/v1/hosts?limit=500&cursor=c"], [call["uri"] for call in script.calls()])

    def test_a_lost_answer_and_a_busy_node_are_repeated_with_the_same_key(self):
        script = self.script({"drop": True}, {"status": 503, "headers": PROBLEM, "body": "{}"}, {"status": 429, "headers": PROBLEM}, ACCEPTED)
        answer = script.client().deliver('{"id":"https://app.example/a/1"}', key_id="k", inboxes=["i"], metadata={"n": 1})
        self.assertEqual(1, answer["accepted"])
        calls = [{name: call[name] for name in ("method", "uri", "headers", "body")} for call in script.calls()]
        self.assertEqual([calls[0]] * 4, calls)
        self.assertRegex(calls[0]["headers"]["idempotency-key"], re.compile("^[0-9a-f]{8}-"))
        self.assertEqual("Bearer token", calls[0]["headers"]["authorization"])
        self.assertEqual(f"postrider-python/{postrider.__version__}", calls[0]["headers"]["user-agent"])

    def test_each_delivery_has_its_own_idempotency_key(self):
        script = self.script(ACCEPTED, ACCEPTED)
        for _ in range(2):
            script.client().deliver("{}", key_id="k", inboxes=["i"])
        self.assertEqual(2, len({call["headers"]["idempotency-key"] for call in script.calls()}))

    def test_gives_up_after_its_retries(self):
        script = self.script(*[{"status": 503, "headers": {"Retry-After": "0"}}] * 3)
        with self.assertRaises(postrider.Error) as caught:
            script.client(retries=2).host("one.example")
        self.assertTrue(caught.exception.temporary)
        self.assertEqual(3, len(script.calls()))

    def test_raises_at_once_if_the_node_asks_for_a_longer_wait(self):
        script = self.script({"status": 503, "headers": {"Retry-After": "60"}})
        with self.assertRaises(postrider.Error) as caught:
            script.client().host("one.example")
        self.assertEqual(60, caught.exception.retry_after)
        self.assertEqual(1, len(script.calls()))

    def test_a_fault_of_the_call_is_not_repeated(self):
        with self.assertRaises(postrider.Error) as caught:
            postrider.Client().deliver('{"type":"Create"}', key=KEY, inboxes=INBOXES)
        error = caught.exception
        self.assertEqual((422, "body.activity.id", "missing"), (error.status, error.errors[0]["location"], error.errors[0]["code"]))
        self.assertIn("body.activity.id", str(error))

    def test_a_node_that_is_away(self):
        with self.assertRaises(postrider.Error) as caught:
            postrider.Client("http://127.0.0.1:1", retries=0).host("one.example")
        self.assertEqual(0, caught.exception.status)
        self.assertTrue(caught.exception.temporary)

    def test_threads_and_forked_processes_do_not_share_a_connection(self):
        script = self.script(*[{"body": "{}"}] * 4)
        client = script.client()
        client.host("parent")
        child = os.fork()
        if child == 0:
            client.host("child")
            os._exit(0)
        os.waitpid(child, 0)
        client.host("parent")
        with ThreadPoolExecutor(1) as pool:
            pool.submit(client.host, "thread").result()
        first, child, second, thread = (call["remote"] for call in script.calls())
        self.assertEqual(first, second)
        self.assertEqual(3, len({first, child, thread}))

    def feed_script(self):
        return self.script(page({"id": "1"}, {"id": "2"}, next_cursor="2"), page({"id": "3"}, next_cursor="3"), page(next_cursor="9"))

    PAGES = [([{"id": "1"}, {"id": "2"}], "2"), ([{"id": "3"}], "3"), ([], "9")]

    def test_feed(self):
        script = self.feed_script()
        self.assertEqual(self.PAGES, list(script.client().feed("0", type=["dead", "host_state"])))
        want = [f"/v1/feed?after={after}&type=dead%2Chost_state&limit=500" for after in (0, 2, 3)]
        self.assertEqual(want, [call["uri"] for call in script.calls()])

    def test_asyncio(self):
        async def use():
            client = postrider.AsyncClient()
            activity = {"id": "https://app.example/a/python/async", "type": "Like"}
            answers = await asyncio.gather(*[client.deliver(activity, key=KEY, inboxes=INBOXES, idempotency_key="async") for _ in range(4)])
            self.assertEqual([answers[0]] * 4, answers)
            self.assertEqual("blocked", (await client.host_action("async.example", "block"))["state"])
            self.assertEqual("blocked", (await client.host("async.example"))["state"])
            await client.put_key("https://app.example/users/async#main-key", KEY["private_key_pem"])
            await client.delete_key("https://app.example/users/async#main-key")
            self.assertEqual("Like", (await client.call("GET", answers[0]["url"]))["type"])
            return [page async for page in self.feed_script().client(postrider.AsyncClient).feed("0")]

        self.assertEqual(self.PAGES, asyncio.run(use()))

    def test_type_hints(self):
        for of in (postrider.Client, postrider.AsyncClient, postrider.Webhook):
            for name, method in vars(of).items():
                if callable(method):
                    self.assertIn("return", typing.get_type_hints(method), f"{of.__name__}.{name}")
