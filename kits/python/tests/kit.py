"""What tests need: see the package comment of the folder above."""

import json
import os
import time
import urllib.request

import postrider

INBOXES = os.environ["KIT_INBOXES"].split()
with open(os.environ["KIT_KEY_FILE"], encoding="ascii") as file:
    KEY = {"key_id": os.environ["KIT_KEY_ID"], "private_key_pem": file.read()}
ACCEPTED = {"status": 202, "body": '{"id":"1","accepted":1,"duplicates":0,"rejected":[],"url":"/v1/activities/1"}'}
PROBLEM = {"Content-Type": "application/problem+json", "Retry-After": "0"}


class Script:
    """A script of the stand-in for a node."""

    def __init__(self, name, *replies):
        self.name = name
        self._http("PUT", json.dumps([{"status": 200, **reply} for reply in replies]).encode())

    def client(self, of=postrider.Client, **options):
        return of(f"{os.environ['KIT_STANDIN']}/{self.name}", "token", **options)

    def calls(self):
        return json.loads(self._http("GET"))

    def _http(self, method, body=None):
        url = f"{os.environ['KIT_STANDIN']}/scripts/{self.name}"
        with urllib.request.urlopen(urllib.request.Request(url, body, method=method)) as response:
            return response.read()


def page(*items, **rest):
    return {"body": json.dumps({"items": items, **rest})}


def counts(answer):
    """Waits until all deliveries of an activity have ended, and returns their counts."""
    for _ in range(200):
        found = postrider.Client().call("GET", answer["url"])["counts"]
        if found["pending"] == 0:
            return found
        time.sleep(0.05)
    raise AssertionError(f"deliveries are still pending: {answer}")
