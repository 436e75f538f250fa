import base64
import hashlib
import hmac
import unittest

import postrider

# The test vector that the libraries of Standard Webhooks share.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
AT = 1614265330
PAYLOAD = b'{"test": 2432232314}'
VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": str(AT),
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}


class WebhookTest(unittest.TestCase):
    def verify(self, body, headers, at=AT, secrets=(SECRET,)):
        return postrider.Webhook(*secrets).verify(body, headers, now=at)

    def refuse(self, body, headers, **options):
        with self.assertRaises(postrider.InvalidSignature):
            self.verify(body, headers, **options)

    def test_the_published_vector(self):
        self.assertEqual([], self.verify(PAYLOAD, VECTOR))  # it is no page of the feed
        self.assertEqual([], self.verify(PAYLOAD, VECTOR, secrets=[SECRET[len("whsec_"):]]))

    def test_entries(self):
        body = '{"items":[{"id":"1","type":"dead","inbox":"https://one.example/ü"}]}'.encode()
        mac = hmac.digest(base64.b64decode(SECRET[len("whsec_"):]), f"m.{AT}.".encode() + body, hashlib.sha256)
        signature = "v1,AAAA v1a,ü v1," + base64.b64encode(mac).decode()
        headers = {"webhook-id": "m", "webhook-timestamp": str(AT), "webhook-signature": signature}
        for secrets in ([SECRET], ["whsec_b3RoZXI=", SECRET]):
            self.assertEqual(["1"], [entry["id"] for entry in self.verify(body, headers, secrets=secrets)])

    def test_what_is_refused(self):
        self.refuse(PAYLOAD + b" ", VECTOR)
        self.refuse(PAYLOAD, VECTOR, secrets=["whsec_b3RoZXI="])
        self.refuse(PAYLOAD, VECTOR, at=AT + 301)
        self.refuse(PAYLOAD, VECTOR, at=AT - 301)
        self.refuse(PAYLOAD, {**VECTOR, "webhook-id": "other"})
        self.refuse(PAYLOAD, {**VECTOR, "webhook-timestamp": f"{AT}x"})
        self.refuse(PAYLOAD, {**VECTOR, "webhook-signature": VECTOR["webhook-signature"].replace("v1,", "v2,")})
        for name in VECTOR:
            self.refuse(PAYLOAD, {other: value for other, value in VECTOR.items() if other != name})

    def test_an_empty_secret_is_refused(self):
        for secrets in ([], [""]):
            with self.assertRaises(ValueError):
                postrider.Webhook(*secrets)
