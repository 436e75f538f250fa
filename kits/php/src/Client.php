<?php

declare(strict_types=1);

namespace Postrider;

/**
 * Calls a node.
 *
 * A call that got no answer, or 429, 502, 503 or 504, is repeated with growing waits, or after the time that the node asked
 * for. No call takes effect twice by that. A call that still fails throws an Error.
 */
final class Client
{
    public const VERSION = '0.1.0';

    private const REPEATED = [0, 429, 502, 503, 504];
    private const PAGE = 500;
    private const JSON = JSON_THROW_ON_ERROR | JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_PRESERVE_ZERO_FRACTION;

    private readonly Connection $connection;

    /**
     * @param string|null $url     defaults to the variable POSTRIDER_URL
     * @param string|null $token   defaults to the variable POSTRIDER_TOKEN
     * @param float       $timeout in seconds, of each attempt
     * @param int         $retries how often a call is repeated
     * @param float       $maxWait the longest wait in seconds before a repetition: if the node asks for more, the Error is
     *                             thrown at once, with its retryAfter
     */
    public function __construct(
        ?string $url = null,
        #[\SensitiveParameter]
        ?string $token = null,
        float $timeout = 30,
        private readonly int $retries = 4,
        private readonly float $maxWait = 15,
    ) {
        $url ??= getenv('POSTRIDER_URL') ?: 'http://127.0.0.1:8080';
        $this->connection = new Connection($url, $token ?? (getenv('POSTRIDER_TOKEN') ?: null), $timeout);
    }

    /**
     * Hands an activity over, and returns the answer: id, accepted, duplicates, rejected, url. If no inbox was accepted,
     * accepted is 0 and the inboxes are in rejected; that is no Error.
     *
     * @param string|array<string, mixed> $activity       text, which is sent byte for byte, or an array
     * @param string|null                 $keyId          names a key that was put before
     * @param array<string, mixed>|null   $key            brings the key along: key_id, private_key_pem, pin
     * @param iterable<string>            $inboxes
     * @param list<array<string, mixed>>  $recipients     each has inbox, shared_inbox, id or ids, headers
     * @param array<string, mixed>        $options        priority, ordering_key, expires_in, final_statuses, metadata
     * @param string|null                 $idempotencyKey a random one by default, so that repetitions by this client deliver
     *                                                    nothing twice. Pass your own (such as the ID of a job) if your
     *                                                    program may repeat the call too
     *
     * @return array<string, mixed>
     */
    public function deliver(
        string|array $activity,
        ?string $keyId = null,
        #[\SensitiveParameter]
        ?array $key = null,
        iterable $inboxes = [],
        array $recipients = [],
        array $options = [],
        ?string $idempotencyKey = null,
    ): array {
        $inboxes = array_values(is_array($inboxes) ? $inboxes : iterator_to_array($inboxes, false));
        $to = ['key_id' => $keyId, 'key' => $key, 'inboxes' => $inboxes, 'recipients' => $recipients];
        $rest = array_filter($to) + $options;
        $text = is_string($activity) ? $activity : json_encode($activity, self::JSON);
        $body = '{"activity":' . $text . ',' . substr(json_encode($rest, self::JSON), 1);
        try {
            $idempotencyKey ??= bin2hex(random_bytes(16));

            return $this->call('POST', '/v1/activities', $body, ["Idempotency-Key: $idempotencyKey"]);
        } catch (Error $e) {
            if (!$e->isNoInboxAccepted()) {
                throw $e;
            }
            $members = array_flip(['inbox', 'reason', 'detail']);
            $rejected = array_map(static fn (array $fault): array => array_intersect_key($fault, $members), $e->errors());

            return ['accepted' => 0, 'duplicates' => 0, 'rejected' => $rejected];
        }
    }

    /**
     * Stores or replaces a private key, in PEM.
     *
     * @return array<string, mixed>
     */
    public function putKey(string $keyId, #[\SensitiveParameter] string $privateKeyPem): array
    {
        $key = ['key_id' => $keyId, 'private_key_pem' => $privateKeyPem];

        return $this->call('PUT', '/v1/keys', json_encode($key, self::JSON));
    }

    /** Removes a key: at once, or with $whenIdle after the last delivery that waits to be signed by it. */
    public function deleteKey(string $keyId, bool $whenIdle = false): void
    {
        $this->call('DELETE', self::path('/v1/keys', ['key_id' => $keyId, 'when' => $whenIdle ? 'idle' : null]));
    }

    /**
     * Yields the public halves of all keys.
     *
     * @return \Generator<array<string, mixed>>
     */
    public function keys(): \Generator
    {
        return $this->each('/v1/keys');
    }

    /**
     * Yields hosts.
     *
     * @return \Generator<array<string, mixed>>
     */
    public function hosts(?string $state = null, ?string $q = null): \Generator
    {
        return $this->each('/v1/hosts', ['state' => $state, 'q' => $q]);
    }

    /**
     * Returns a host.
     *
     * @return array<string, mixed>
     */
    public function host(string $name): array
    {
        return $this->call('GET', '/v1/hosts/' . rawurlencode($name));
    }

    /**
     * Yields what is pending for a host, in the order accepted.
     *
     * @return \Generator<array<string, mixed>>
     */
    public function hostDeliveries(string $name): \Generator
    {
        return $this->each('/v1/hosts/' . rawurlencode($name) . '/deliveries');
    }

    /**
     * pause, resume, block, unblock, reset, probe or seen. Returns the host.
     *
     * @return array<string, mixed>
     */
    public function hostAction(string $name, string $action): array
    {
        return $this->call('POST', '/v1/hosts/' . rawurlencode($name) . "/$action");
    }

    /**
     * Yields what happened after a cursor, oldest first, until there is no more for now: pages of entries by the cursor
     * after them, which the caller keeps once it has handled the page. The last page has no entries.
     *
     * @param string|null  $after 'now' begins at the end; null at the oldest entry that the node still has
     * @param list<string> $types only entries of these types
     * @param list<string> $hosts only entries of these hosts
     *
     * @return \Generator<string, list<array<string, mixed>>>
     */
    public function feed(?string $after = null, array $types = [], array $hosts = [], int $limit = self::PAGE): \Generator
    {
        $filter = ['type' => implode(',', $types) ?: null, 'host' => implode(',', $hosts) ?: null, 'limit' => $limit];
        do {
            $page = $this->call('GET', self::path('/v1/feed', ['after' => $after] + $filter));
            $after = $page['next_cursor'];
            yield $after => $page['items'];
        } while ($page['items'] !== []);
    }

    /**
     * Yields the items of any list of the API.
     *
     * @param array<string, string|int|null> $query
     *
     * @return \Generator<array<string, mixed>>
     */
    public function each(string $path, array $query = []): \Generator
    {
        do {
            $page = $this->call('GET', self::path($path, ['limit' => self::PAGE] + $query));
            foreach ($page['items'] as $item) {
                yield $item;
            }
            $query['cursor'] = $page['next_cursor'] ?? null;
        } while ($query['cursor'] !== null);
    }

    /**
     * Makes any call and returns the answer, null if it has no body.
     *
     * @param string|null  $body    JSON
     * @param list<string> $headers
     */
    public function call(string $method, string $path, ?string $body = null, array $headers = []): mixed
    {
        for ($tries = 0; ; ++$tries) {
            try {
                return $this->connection->call($method, $path, $body, $headers);
            } catch (Error $e) {
                $wait = $e->retryAfter ?? 0.25 * 2 ** $tries * random_int(100, 150) / 100;
                if ($tries >= $this->retries || !in_array($e->status, self::REPEATED, true) || $wait > $this->maxWait) {
                    throw $e;
                }
                usleep((int) ($wait * 1_000_000));
            }
        }
    }

    /** @param array<string, string|int|null> $query */
    private static function path(string $path, array $query): string
    {
        $text = http_build_query($query); // without what is null

        return $text === '' ? $path : "$path?$text";
    }
}
