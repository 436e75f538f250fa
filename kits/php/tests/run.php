<?php

// Runs the tests: the methods whose names begin with test of the classes in *Test.php. Exits with 1 if one failed.

declare(strict_types=1);

set_error_handler(static fn (int $level, string $message, string $file, int $line) => throw new ErrorException($message, 0, $level, $file, $line));
require __DIR__ . '/../autoload.php';
require __DIR__ . '/Kit.php';

$ran = 0;
$failed = 0;
foreach (glob(__DIR__ . '/*Test.php') as $file) {
    require $file;
    $class = basename($file, '.php');
    foreach (array_filter(get_class_methods($class), static fn (string $name): bool => str_starts_with($name, 'test')) as $name) {
        ++$ran;
        try {
            (new $class())->$name();
        } catch (Throwable $e) {
            ++$failed;
            echo "$class::$name: $e\n\n";
        }
    }
}
echo "$ran tests, $failed failed\n";
exit($ran === 0 || $failed > 0 ? 1 : 0);
