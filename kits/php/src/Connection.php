<?php

declare(strict_types=1);

namespace Postrider;

/**
 * Makes single HTTP calls by curl, over one kept connection.
 *
 * @internal
 */
final class Connection
{
    private \CurlHandle $curl;

    private int $pid;

    public function __construct(
        private readonly string $url,
        private readonly ?string $token,
        private readonly float $timeout,
    ) {
        $this->open();
    }

    /**
     * Returns the answer, or throws an Error.
     *
     * @param list<string> $headers
     */
    public function call(string $method, string $path, ?string $body, array $headers): mixed
    {
        if ($this->pid !== getmypid()) { // a forked process must not write into its parent's connection
            $this->open();
        }
        $wait = null;
        curl_setopt_array($this->curl, [
            CURLOPT_URL => rtrim($this->url, '/') . $path,
            CURLOPT_CUSTOMREQUEST => $method,
            CURLOPT_POSTFIELDS => $body ?? ($method === 'POST' ? '{}' : ''),
            CURLOPT_HTTPHEADER => [...$headers, ...$this->headers()],
            CURLOPT_HEADERFUNCTION => static function ($curl, string $line) use (&$wait): int {
                if (preg_match('/^Retry-After:\s*(\d+)\s*$/i', $line, $found) === 1) {
                    $wait = (int) $found[1];
                }

                return strlen($line);
            },
        ]);
        $text = curl_exec($this->curl);
        if ($text === false) {
            throw new Error(0, ['detail' => curl_error($this->curl)]);
        }
        $status = curl_getinfo($this->curl, CURLINFO_RESPONSE_CODE);
        $answer = json_decode($text, true);
        if ($status >= 200 && $status < 300) {
            return $text === '' || $answer !== null ? $answer : throw new Error(0, ['detail' => 'the answer is no JSON']);
        }
        throw new Error($status, is_array($answer) ? $answer : [], $wait);
    }

    private function open(): void
    {
        $this->pid = getmypid();
        $this->curl = curl_init();
        curl_setopt_array($this->curl, [
            CURLOPT_RETURNTRANSFER => true,
            CURLOPT_CONNECTTIMEOUT_MS => (int) (min($this->timeout, 5) * 1000),
            CURLOPT_TIMEOUT_MS => (int) ($this->timeout * 1000),
            CURLOPT_PROTOCOLS => CURLPROTO_HTTP | CURLPROTO_HTTPS,
            CURLOPT_USERAGENT => 'postrider-php/' . Client::VERSION,
        ]);
    }

    /** @return list<string> */
    private function headers(): array
    {
        $headers = ['Content-Type: application/json', 'Expect:']; // curl would wait for a 100 before long bodies

        return $this->token === null ? $headers : [...$headers, "Authorization: Bearer {$this->token}"];
    }
}
