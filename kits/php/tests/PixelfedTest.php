<?php

declare(strict_types=1);

use App\Services\PostriderDelivery;
use Postrider\Error;

require __DIR__ . '/../examples/pixelfed.php';

/** Runs the example for Pixelfed, with stand-ins for its profile and its job. */
final class PixelfedTest extends Kit
{
    private const ACTIVITY = '{"id":"https://app.example/a/php/pixelfed","type":"Create"}';

    public ?Throwable $failed = null;

    public object $job;

    public function __construct()
    {
        $this->job = new class () {
            public function uuid(): string
            {
                return 'b7d6';
            }
        };
    }

    public function testAnActivityIsHandedOver(): void
    {
        PostriderDelivery::$client = null;
        $this->deliver(self::ACTIVITY);
        self::same(null, $this->failed);
    }

    public function testAJobThatRunsTwiceIsOneCall(): void
    {
        PostriderDelivery::$client = $this->script([['status' => 503], self::ACCEPTED], retries: 0);
        self::thrown(Error::class, fn () => $this->deliver(self::ACTIVITY));
        $this->deliver(self::ACTIVITY);
        self::same(['pixelfed-b7d6', 'pixelfed-b7d6'], array_column(array_column($this->calls(), 'headers'), 'idempotency-key'));
    }

    public function testAFaultFailsTheJob(): void
    {
        PostriderDelivery::$client = null;
        $this->deliver('{"id":"https://app.example/a/php/pixelfed-2"}');
        self::same(Error::class, $this->failed::class);
    }

    /** Stands for Laravel's queue, which does not run the job again. */
    public function fail(Throwable $e): void
    {
        $this->failed = $e;
    }

    private function deliver(string $payload): void
    {
        $profile = new class (self::key()['private_key_pem']) {
            public function __construct(public string $private_key)
            {
            }

            public function permalink(string $suffix): string
            {
                return 'https://app.example/users/alice' . $suffix;
            }
        };
        PostriderDelivery::deliver($this, $profile, $payload, self::inboxes());
    }
}
