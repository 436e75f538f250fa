<?php

declare(strict_types=1);

use Postrider\Client;

/** Helpers of the tests: see the package comment of the folder above. */
abstract class Kit
{
    protected const ACCEPTED = ['status' => 202, 'body' => '{"id":"1","accepted":1,"duplicates":0,"rejected":[],"url":"/v1/activities/1"}'];

    private string $script;

    protected static function inboxes(): array
    {
        return explode(' ', getenv('KIT_INBOXES'));
    }

    protected static function key(): array
    {
        return ['key_id' => getenv('KIT_KEY_ID'), 'private_key_pem' => file_get_contents(getenv('KIT_KEY_FILE'))];
    }

    /** Makes a script of the stand-in for a node, and returns a client of it. */
    protected function script(array $replies, int $retries = 4): Client
    {
        $this->script = 'php-' . bin2hex(random_bytes(8));
        $this->standin('PUT', json_encode(array_map(static fn (array $reply): array => $reply + ['status' => 200], $replies)));

        return new Client($this->scriptUrl(), 'token', retries: $retries);
    }

    protected function scriptUrl(): string
    {
        return getenv('KIT_STANDIN') . '/' . $this->script;
    }

    /** The calls of the script. */
    protected function calls(): array
    {
        return json_decode($this->standin('GET', ''), true);
    }

    protected static function page(array $items, array $rest = []): array
    {
        return ['body' => json_encode(['items' => $items] + $rest)];
    }

    /** Waits until all deliveries of an activity have ended, and returns their counts. */
    protected static function counts(array $answer): array
    {
        for ($i = 0; $i < 200; ++$i) {
            $counts = (new Client())->call('GET', $answer['url'])['counts'];
            if ($counts['pending'] === 0) {
                return $counts;
            }
            usleep(50_000);
        }
        throw new RuntimeException('deliveries are still pending: ' . json_encode($answer));
    }

    protected static function same(mixed $want, mixed $got, string $what = ''): void
    {
        if ($want !== $got) {
            throw new RuntimeException(trim("$what want " . var_export($want, true) . "\n got " . var_export($got, true)));
        }
    }

    /** Returns what a function throws. */
    protected static function thrown(string $class, callable $function): Throwable
    {
        try {
            $function();
        } catch (Throwable $e) {
            self::same($class, $e::class, (string) $e);

            return $e;
        }
        throw new RuntimeException("no $class was thrown");
    }

    private function standin(string $method, string $body): string
    {
        $options = ['method' => $method, 'content' => $body, 'header' => 'Content-Type: application/json'];

        return file_get_contents(getenv('KIT_STANDIN') . "/scripts/{$this->script}", false, stream_context_create(['http' => $options]));
    }
}
