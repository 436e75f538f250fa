"""Takahe through Postrider, by Django-RQ: one job for each post.

Takahe makes a FanOut row for each remote recipient, and signs and sends in the state machine of each. Enqueue this job
once instead, after the transaction of the post: transaction.on_commit(lambda: hand_over.delay(post.pk)).
"""

import json

from activities.models import Post
from core.ld import canonicalise
from django_rq import job
from rq import Retry, get_current_job

import postrider

client = postrider.Client()


@job("default", retry=Retry(max=16, interval=[15, 30, 60, 300, 1800, 3600]))
def hand_over(post_id: int):
    """Hands a post over; RQ repeats the job while the node is away."""
    post = Post.objects.select_related("author").get(pk=post_id)
    shared = post.visibility != Post.Visibilities.mentioned  # what is for some people only goes to their own inboxes
    return client.deliver(
        json.dumps(canonicalise(post.to_create_ap())),
        key={"key_id": post.author.public_key_id, "private_key_pem": post.author.private_key},
        recipients=[recipient(target, shared) for target in post.get_targets() if not target.local],
        idempotency_key=f"rq-{get_current_job().id}",
        metadata={"post_id": post_id},
    )


def recipient(identity, shared: bool) -> dict:
    """Returns where a post for an identity goes. The feed names the identity if it cannot be delivered."""
    to = {"inbox": identity.inbox_uri, "ids": [identity.actor_uri]}
    if shared and identity.shared_inbox_uri:
        to["shared_inbox"] = identity.shared_inbox_uri
    return to
