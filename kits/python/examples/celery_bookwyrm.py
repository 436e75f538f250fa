"""BookWyrm through Postrider: put this in place of broadcast_task and async_broadcast in bookwyrm/models/activitypub_mixin.py.

BookWyrm has collected all inboxes and serialised the activity before it enqueues the task. So the task makes one call,
instead of one signed request for each inbox.
"""

from celery import shared_task
from django.apps import apps

import postrider

client = postrider.Client()


@shared_task(bind=True, queue="broadcast", max_retries=16, acks_late=True)
def broadcast_task(self, sender_id: int, activity: str, recipients: list):
    """Hands the activity over; Celery repeats the task while the node is away."""
    sender = apps.get_model("bookwyrm.User", require_ready=True).objects.select_related("key_pair").get(id=sender_id)
    key = {"key_id": f"{sender.remote_id}#main-key", "private_key_pem": sender.key_pair.private_key}
    try:
        return client.deliver(activity, key=key, inboxes=recipients, idempotency_key=f"celery-{self.request.id}")
    except postrider.Error as e:
        if e.temporary:
            raise self.retry(exc=e, countdown=e.retry_after or min(15 * 2**self.request.retries, 3600))
        raise
