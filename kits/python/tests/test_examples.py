"""Runs the examples for other apps, with stand-ins for what they import."""

import importlib.util
import json
import pathlib
import sys
import types
import unittest
from unittest import mock

import postrider
from kit import ACCEPTED, INBOXES, KEY, Script, counts

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def load(name, **modules):
    """Imports an example while these modules stand in for what it imports."""
    standins = {}
    for path, members in modules.items():
        path = path.replace("__", ".")
        standins[path] = types.ModuleType(path)
        vars(standins[path]).update(members)
        standins.setdefault(path.split(".")[0], types.ModuleType(path.split(".")[0]))
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(sys.modules, standins):
        spec.loader.exec_module(module)
    return module


class Rows:
    """As much of a Django manager as the examples use."""

    def __init__(self, row):
        self.row = row

    def select_related(self, *_):
        return self

    def get(self, **_):
        return self.row


class Retried(Exception):
    """What a Celery task raises to be run again."""


class CeleryTest(unittest.TestCase):
    def setUp(self):
        key_pair = types.SimpleNamespace(private_key=KEY["private_key_pem"])
        user = types.SimpleNamespace(remote_id="https://app.example/users/alice", key_pair=key_pair)
        models = types.SimpleNamespace(get_model=lambda *_, **__: types.SimpleNamespace(objects=Rows(user)))
        decorator = lambda **options: self.assertTrue(options["bind"]) or (lambda function: function)
        self.example = load("celery_bookwyrm", celery={"shared_task": decorator}, django__apps={"apps": models})

    def task(self):
        return types.SimpleNamespace(request=types.SimpleNamespace(id=self.id(), retries=3), retry=self.retry)

    def retry(self, exc, countdown):
        self.countdown = countdown
        return Retried(str(exc))

    def run_task(self):
        activity = '{"id":"https://app.example/a/python/celery","type":"Create"}'
        return self.example.broadcast_task(self.task(), 1, activity, INBOXES)

    def test_one_call_for_all_inboxes(self):
        self.assertEqual(len(INBOXES), counts(self.run_task())["delivered"])
        self.assertEqual(self.run_task(), self.run_task(), "the task is idempotent")

    def test_celery_repeats_while_the_node_is_away(self):
        for reply, countdown in (({"drop": True}, 120), ({"status": 503, "headers": {"Retry-After": "60"}}, 60)):
            self.example.client = Script(self.id(), reply).client(retries=0)
            with self.assertRaises(Retried):
                self.run_task()
            self.assertEqual(countdown, self.countdown)

    def test_a_fault_is_not_repeated(self):
        self.example.client = Script(self.id(), {"status": 422}).client()
        with self.assertRaises(postrider.Error):
            self.run_task()


class RQTest(unittest.TestCase):
    def setUp(self):
        self.author = types.SimpleNamespace(public_key_id=KEY["key_id"], private_key=KEY["private_key_pem"])
        self.post = types.SimpleNamespace(author=self.author, visibility="public", to_create_ap=self.activity, get_targets=self.targets)
        visibilities = types.SimpleNamespace(mentioned="mentioned")
        retry = lambda max, interval: (max, interval)
        self.example = load(
            "rq_takahe",
            activities__models={"Post": types.SimpleNamespace(objects=Rows(self.post), Visibilities=visibilities)},
            core__ld={"canonicalise": lambda document: {"@context": "c", **document}},
            django_rq={"job": lambda queue, retry: lambda function: function},
            rq={"Retry": retry, "get_current_job": lambda: types.SimpleNamespace(id=self.id())},
        )

    def activity(self):
        return {"id": "https://app.example/a/python/rq", "type": "Create"}

    def targets(self):
        def identity(name, inbox, shared, local=False):
            return types.SimpleNamespace(actor_uri=name, inbox_uri=inbox, shared_inbox_uri=shared, local=local)

        yield identity("bob", "https://10.0.0.1/bob", INBOXES[0])
        yield identity("eve", INBOXES[1], None)
        yield identity("me", "https://app.example/inbox", None, local=True)

    def test_one_call_for_all_targets(self):
        answer = self.example.hand_over(7)
        self.assertEqual(len(INBOXES), counts(answer)["delivered"])
        self.assertEqual(answer, self.example.hand_over(7), "the job is idempotent")

    def test_what_is_for_some_people_does_not_go_to_shared_inboxes(self):
        self.post.visibility = "mentioned"
        script = Script(self.id(), ACCEPTED)
        self.example.client = script.client()
        self.example.hand_over(7)
        call = json.loads(script.calls()[0]["body"])
        self.assertEqual([{"inbox": "https://10.0.0.1/bob", "ids": ["bob"]}, {"inbox": INBOXES[1], "ids": ["eve"]}], call["recipients"])
        self.assertEqual({"post_id": 7}, call["metadata"])
