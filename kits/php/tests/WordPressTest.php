<?php

declare(strict_types=1);

/** Runs the example for WordPress, with stand-ins for WordPress and the ActivityPub plugin (wordpress.php). */
final class WordPressTest extends Kit
{
    private const ACTIVITY = '{"id":"https://app.example/a/php/wordpress","type":"Create"}';

    public function testABatchIsHandedOverInOneCall(): void
    {
        self::same(['202', '202'], $this->site(self::ACTIVITY, self::inboxes()));
    }

    public function testTheDispatcherTriesAgainWhileTheNodeIsAway(): void
    {
        $this->script([['status' => 503, 'headers' => ['Retry-After' => '60']], self::ACCEPTED]);
        self::same(['503', '503'], $this->site(self::ACTIVITY, ['a', 'b'], $this->scriptUrl()));
        self::same(['202', '202'], $this->site(self::ACTIVITY, ['a', 'b'], $this->scriptUrl()));
        $calls = $this->calls();
        self::same($calls[0]['headers']['idempotency-key'], $calls[1]['headers']['idempotency-key']);
        self::same(['a', 'b'], json_decode($calls[0]['body'], true)['inboxes']);
    }

    public function testAFaultIsNotTriedAgain(): void
    {
        $this->script([['status' => 422]]);
        self::same(['400'], $this->site(self::ACTIVITY, ['a'], $this->scriptUrl()));
    }

    public function testOtherRequestsGoTheirWay(): void
    {
        $this->script([self::ACCEPTED]);
        self::same(['202', 'other', 'other'], $this->site(self::ACTIVITY, ['a'], $this->scriptUrl(), '+other'));
    }

    /**
     * Dispatches an activity in a site of its own, and returns what the plugin's posts were answered.
     *
     * @return list<string>
     */
    private function site(string $json, array $inboxes, string $url = '', string $more = ''): array
    {
        $command = [PHP_BINARY, __DIR__ . '/wordpress.php', $json, $more, ...$inboxes];
        $environment = $url === '' ? getenv() : ['POSTRIDER_URL' => $url] + getenv();
        $process = proc_open($command, [1 => ['pipe', 'w'], 2 => STDERR], $pipes, null, $environment);
        $out = stream_get_contents($pipes[1]);
        self::same(0, proc_close($process), $out);

        return explode(' ', trim($out));
    }
}
