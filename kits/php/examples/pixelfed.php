<?php

// Pixelfed through Postrider: this takes the place of everything after $payload = json_encode($activity) in handle() of
// app/Jobs/StatusPipeline/StatusActivityPubDeliver.php, and likewise in the other jobs that deliver. There, a pool of
// requests signs and sends to each inbox, and looks at no answer.

namespace App\Services;

use Postrider\Client;
use Postrider\Error;

final class PostriderDelivery
{
    /** One for a worker of the queue, so that its connection is kept. */
    public static ?Client $client = null;

    /**
     * Hands an activity over for all inboxes. $job is the job, whose UUID keeps a job that runs twice from delivering twice.
     * If it throws, the queue runs the job again: give the job public $tries = 16 and public $backoff.
     */
    public static function deliver($job, $profile, string $payload, array $audience): void
    {
        self::$client ??= new Client();
        $key = ['key_id' => $profile->permalink('#main-key'), 'private_key_pem' => $profile->private_key];
        try {
            self::$client->deliver($payload, key: $key, inboxes: $audience, idempotencyKey: 'pixelfed-' . $job->job->uuid());
        } catch (Error $e) {
            $e->isTemporary() ? throw $e : $job->fail($e);
        }
    }
}
