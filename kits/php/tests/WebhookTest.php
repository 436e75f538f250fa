<?php

declare(strict_types=1);

use Postrider\InvalidSignature;
use Postrider\Webhook;

final class WebhookTest extends Kit
{
    // The test vector that the libraries of Standard Webhooks share.
    private const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
    private const AT = 1614265330;
    private const PAYLOAD = '{"test": 2432232314}';
    private const VECTOR = [
        'webhook-id' => 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        'webhook-timestamp' => '1614265330',
        'webhook-signature' => 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    ];

    public function testThePublishedVector(): void
    {
        self::same([], self::verify(self::PAYLOAD, self::VECTOR)); // it is no page of the feed
        self::same([], self::verify(self::PAYLOAD, self::VECTOR, secrets: [substr(self::SECRET, 6)]));
        self::same([], self::verify(self::PAYLOAD, array_combine(['Webhook-Id', 'Webhook-Timestamp', 'Webhook-Signature'], self::VECTOR)));
        self::same([], self::verify(self::PAYLOAD, array_combine(['HTTP_WEBHOOK_ID', 'HTTP_WEBHOOK_TIMESTAMP', 'HTTP_WEBHOOK_SIGNATURE'], self::VECTOR)));
    }

    public function testEntries(): void
    {
        $body = '{"items":[{"id":"1","type":"dead","inbox":"https://one.example/ü"}]}';
        $mac = base64_encode(hash_hmac('sha256', 'm.' . self::AT . ".$body", base64_decode(substr(self::SECRET, 6)), true));
        $headers = ['webhook-id' => 'm', 'webhook-timestamp' => (string) self::AT, 'webhook-signature' => "v1,AAAA v1a,x v1,$mac"];
        self::same(['1'], array_column(self::verify($body, $headers), 'id'));
        self::same(['1'], array_column(self::verify($body, $headers, secrets: ['whsec_b3RoZXI=', self::SECRET]), 'id'));
    }

    public function testWhatIsRefused(): void
    {
        self::refuse(self::PAYLOAD . ' ', self::VECTOR);
        self::refuse(self::PAYLOAD, self::VECTOR, secrets: ['whsec_b3RoZXI=']);
        self::refuse(self::PAYLOAD, self::VECTOR, at: self::AT + 301);
        self::refuse(self::PAYLOAD, self::VECTOR, at: self::AT - 301);
        self::refuse(self::PAYLOAD, ['webhook-id' => 'other'] + self::VECTOR);
        self::refuse(self::PAYLOAD, ['webhook-timestamp' => self::AT . 'x'] + self::VECTOR);
        self::refuse(self::PAYLOAD, ['webhook-signature' => str_replace('v1,', 'v2,', self::VECTOR['webhook-signature'])] + self::VECTOR);
        foreach (array_keys(self::VECTOR) as $name) {
            self::refuse(self::PAYLOAD, array_diff_key(self::VECTOR, [$name => 1]));
        }
    }

    public function testAnEmptySecretIsRefused(): void
    {
        self::thrown(InvalidArgumentException::class, static fn () => new Webhook(''));
        self::thrown(InvalidArgumentException::class, static fn () => new Webhook());
    }

    private static function verify(string $body, array $headers, int $at = self::AT, array $secrets = [self::SECRET]): array
    {
        return (new Webhook(...$secrets))->verify($body, $headers, $at);
    }

    private static function refuse(string $body, array $headers, mixed ...$options): void
    {
        self::thrown(InvalidSignature::class, static fn () => self::verify($body, $headers, ...$options));
    }
}
