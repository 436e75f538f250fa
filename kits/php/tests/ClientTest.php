<?php

declare(strict_types=1);

use Postrider\Client;
use Postrider\Error;

final class ClientTest extends Kit
{
    public function testDeliversExactBytes(): void
    {
        $answer = (new Client())->deliver(getenv('KIT_EXACT'), key: self::key(), inboxes: self::inboxes());
        self::same(count(self::inboxes()), $answer['accepted']);
        self::same(count(self::inboxes()), self::counts($answer)['delivered']);
    }

    public function testTextAndArrays(): void
    {
        $client = $this->script([self::ACCEPTED, self::ACCEPTED]);
        $client->deliver('{"id": 1.50}', keyId: 'k', inboxes: ['a' => 'i'], options: ['metadata' => ['n' => 1], 'final_statuses' => [401]]);
        $client->deliver(['id' => 'https://ü.example/1', 'n' => 2.0], keyId: 'k', inboxes: new ArrayIterator(['i']), recipients: [['inbox' => 'j']]);
        self::same([
            '{"activity":{"id": 1.50},"key_id":"k","inboxes":["i"],"metadata":{"n":1},"final_statuses":[401]}',
            '{"activity":{"id":"https://ü.example/1","n":2.0},"key_id":"k","inboxes":["i"],"recipients":[{"inbox":"j"}]}',
        ], array_column($this->calls(), 'body'));
    }

    public function testAnIdempotencyKeyDeliversOnce(): void
    {
        $client = new Client();
        $deliver = static fn (array $options = []): array => $client->deliver(
            ['id' => 'https://app.example/a/php/once', 'type' => 'Like'],
            key: self::key(),
            inboxes: self::inboxes(),
            options: $options,
            idempotencyKey: 'php-once',
        );
        self::same($deliver(), $deliver());
        $error = self::thrown(Error::class, static fn () => $deliver(['priority' => 'low']));
        self::same([true, false], [$error->isIdempotencyMismatch(), $error->isTemporary()]);
    }

    public function testNoInboxAcceptedIsNoError(): void
    {
        $activity = ['id' => 'https://app.example/a/php/none', 'type' => 'Like'];
        $answer = (new Client())->deliver($activity, key: self::key(), inboxes: ['https://10.0.0.1/inbox']);
        self::same(0, $answer['accepted']);
        self::same(['https://10.0.0.1/inbox' => 'private_address'], array_column($answer['rejected'], 'reason', 'inbox'));
    }

    public function testKeys(): void
    {
        $client = new Client();
        $keyId = 'https://app.example/users/php#main-key';
        $client->putKey($keyId, self::key()['private_key_pem']);
        self::same(true, in_array($keyId, array_column(iterator_to_array($client->keys(), false), 'key_id'), true));
        $client->deleteKey($keyId);
        self::same(false, in_array($keyId, array_column(iterator_to_array($client->keys(), false), 'key_id'), true));
        $this->script([['status' => 202]])->deleteKey($keyId, whenIdle: true);
        self::same('/v1/keys?key_id=https%3A%2F%2Fapp.example%2Fusers%2Fphp%23main-key&when=idle', $this->calls()[0]['uri']);
    }

    public function testHosts(): void
    {
        $client = new Client();
        self::same('blocked', $client->hostAction('php.example', 'block')['state']);
        self::same(['php.example'], array_column(iterator_to_array($client->hosts(state: 'blocked', q: 'php.'), false), 'host'));
        $client->hostAction('php.example', 'unblock');
        self::same('healthy', $client->host('php.example')['state']);
    }

    public function testListsHavePages(): void
    {
        $client = $this->script([self::page([['host' => 'a']], ['next_cursor' => 'c']), self::page([['host' => 'b']])]);
        self::same(['a', 'b'], array_column(iterator_to_array($client->hosts(), false), 'host'));
        self::same(['/v1/hosts?limit=500', '/v1/hosts?limit=500&cursor=c'], array_column($this->calls(), 'uri'));
    }

    public function testALostAnswerAndABusyNodeAreRepeatedWithTheSameKey(): void
    {
        $headers = ['Retry-After' => '0', 'Content-Type' => 'application/problem+json'];
        $replies = [['drop' => true], ['status' => 503, 'headers' => $headers, 'body' => '{}'], ['status' => 429, 'headers' => $headers], self::ACCEPTED];
        self::same(1, $this->script($replies)->deliver('{"id":"https://app.example/a/1"}', keyId: 'k', inboxes: ['i'])['accepted']);
        $calls = array_map(static fn (array $call): array => ['remote' => ''] + $call, $this->calls());
        self::same([4, 1], [count($calls), count(array_unique($calls, SORT_REGULAR))]);
        self::same(1, preg_match('/^[0-9a-f]{32}$/', $calls[0]['headers']['idempotency-key']));
        self::same('Bearer token', $calls[0]['headers']['authorization']);
        self::same('postrider-php/' . Client::VERSION, $calls[0]['headers']['user-agent']);
    }

    public function testEachDeliveryHasItsOwnIdempotencyKey(): void
    {
        $client = $this->script([self::ACCEPTED, self::ACCEPTED]);
        $client->deliver('{}', keyId: 'k', inboxes: ['i']);
        $client->deliver('{}', keyId: 'k', inboxes: ['i']);
        $calls = $this->calls();
        self::same(true, $calls[0]['headers']['idempotency-key'] !== $calls[1]['headers']['idempotency-key']);
        self::same($calls[0]['remote'], $calls[1]['remote'], 'the connection is kept');
    }

    public function testGivesUpAfterItsRetries(): void
    {
        $client = $this->script(array_fill(0, 3, ['status' => 503, 'headers' => ['Retry-After' => '0']]), retries: 2);
        self::same(true, self::thrown(Error::class, static fn () => $client->host('one.example'))->isTemporary());
        self::same(3, count($this->calls()));
    }

    public function testThrowsAtOnceIfTheNodeAsksForALongerWait(): void
    {
        $client = $this->script([['status' => 503, 'headers' => ['Retry-After' => '60']]]);
        self::same(60, self::thrown(Error::class, static fn () => $client->host('one.example'))->retryAfter);
        self::same(1, count($this->calls()));
    }

    public function testAFaultOfTheCallIsNotRepeated(): void
    {
        $deliver = static fn () => (new Client())->deliver('{"type":"Create"}', key: self::key(), inboxes: self::inboxes());
        $error = self::thrown(Error::class, $deliver);
        self::same([422, 'body.activity.id', 'missing'], [$error->status, $error->errors()[0]['location'], $error->errors()[0]['code']]);
        self::same(true, str_contains($error->getMessage(), 'body.activity.id'));
    }

    public function testANodeThatIsAway(): void
    {
        $error = self::thrown(Error::class, static fn () => (new Client('http://127.0.0.1:1', retries: 0))->host('one.example'));
        self::same([0, true], [$error->status, $error->isTemporary()]);
    }

    public function testFeed(): void
    {
        $client = $this->script([
            self::page([['id' => 'a'], ['id' => 'b']], ['next_cursor' => '2']),
            self::page([['id' => 'c']], ['next_cursor' => '3']),
            self::page([], ['next_cursor' => '9']),
        ]);
        $pages = [];
        foreach ($client->feed('0', types: ['dead', 'host_state']) as $cursor => $entries) {
            $pages[] = [$cursor, array_column($entries, 'id')];
        }
        self::same([['2', ['a', 'b']], ['3', ['c']], ['9', []]], $pages);
        $want = array_map(static fn (int $after): string => "/v1/feed?after=$after&type=dead%2Chost_state&limit=500", [0, 2, 3]);
        self::same($want, array_column($this->calls(), 'uri'));
    }

    public function testTheVersionIsOne(): void
    {
        $composer = json_decode(file_get_contents(__DIR__ . '/../composer.json'), true);
        self::same(Client::VERSION, $composer['version']);
    }
}
