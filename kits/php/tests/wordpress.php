<?php

// As much of WordPress and its ActivityPub plugin as the example touches. Dispatches one batch and prints the answers.

declare(strict_types=1);

namespace Activitypub\Collection {
    final class Actors
    {
        public static function get_by_id(int $id): object
        {
            return new class () {
                public function get_id(): string
                {
                    return 'https://app.example/users/alice';
                }
            };
        }

        public static function get_private_key(int $id): string
        {
            return file_get_contents(getenv('KIT_KEY_FILE'));
        }
    }
}

namespace {
    $hooks = [];

    function add_action(string $name, callable $function, int $priority, int $arguments): void
    {
        $GLOBALS['hooks'][$name] = $function;
    }

    function add_filter(string $name, callable $function, int $priority, int $arguments): void
    {
        add_action($name, $function, $priority, $arguments);
    }

    function get_post(int $id): object
    {
        return (object) ['post_author' => 1];
    }

    function wp_remote_post(string $url, string $body): string
    {
        $answer = $GLOBALS['hooks']['pre_http_request'](false, ['method' => 'POST', 'body' => $body], $url);

        return $answer === false ? 'other' : (string) $answer['response']['code'];
    }

    // A site has the kit beside the file.
    $plugins = sys_get_temp_dir() . '/mu-plugins-' . getmypid();
    mkdir($plugins);
    symlink(dirname(__DIR__), "$plugins/postrider");
    copy(__DIR__ . '/../examples/wordpress.php', "$plugins/postrider.php");
    register_shutdown_function(static function () use ($plugins): void {
        unlink("$plugins/postrider");
        unlink("$plugins/postrider.php");
        rmdir($plugins);
    });
    ini_set('error_log', '/dev/null');
    require "$plugins/postrider.php";

    [, $json, $more] = $argv;
    $inboxes = array_slice($argv, 3);
    $hooks['activitypub_pre_send_to_inboxes']($json, $inboxes, 42);
    $answers = array_map(static fn (string $inbox): string => wp_remote_post($inbox, $json), $inboxes);
    if ($more !== '') {
        $answers[] = wp_remote_post('https://other.example/', $json);
        $answers[] = wp_remote_post($inboxes[0], 'another body');
    }
    echo implode(' ', $answers);
}
