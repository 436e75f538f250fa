# frozen_string_literal: true

require_relative 'helper'

class ClientTest < Minitest::Test
  include Kit

  def test_delivers_exact_bytes
    answer = Postrider::Client.new.deliver(ENV.fetch('KIT_EXACT'), key: KEY, inboxes: INBOXES)
    assert_equal INBOXES.size, answer['accepted']
    assert_equal INBOXES.size, counts(answer)['delivered']
  end

  def test_an_idempotency_key_delivers_once
    activity = { id: 'https://app.example/a/ruby/once', type: 'Like' }
    first, second = Array.new(2) do
      Postrider::Client.new.deliver(activity, key: KEY, inboxes: INBOXES, idempotency_key: 'ruby-once')
    end
    assert_equal first, second
    error = assert_raises(Postrider::Error) do
      Postrider::Client.new.deliver(activity, key: KEY, inboxes: INBOXES, priority: 'low', idempotency_key: 'ruby-once')
    end
    assert_predicate error, :idempotency_mismatch?
    refute_predicate error, :temporary?
  end

  def test_no_inbox_accepted_is_no_error
    answer = Postrider::Client.new.deliver({ id: 'https://app.example/a/ruby/none', type: 'Like' }, key: KEY, inboxes: ['https://10.0.0.1/inbox'])
    assert_equal 0, answer['accepted']
    assert_equal [['https://10.0.0.1/inbox', 'private_address']], answer['rejected'].map { |r| r.values_at('inbox', 'reason') }
  end

  def test_keys
    client = Postrider::Client.new
    key_id = 'https://app.example/users/ruby#main-key'
    client.put_key(key_id, KEY[:private_key_pem])
    assert_includes client.keys.map { |key| key['key_id'] }, key_id
    assert_nil client.delete_key(key_id)
    refute_includes client.keys.map { |key| key['key_id'] }, key_id
    script = script({ status: 202 })
    script.client.delete_key(key_id, when_idle: true)
    assert_equal '/v1/keys?key_id=https%3A%2F%2Fapp.example%2Fusers%2Fruby%23main-key&when=idle', script.calls.first['uri']
  end

  def test_hosts
    client = Postrider::Client.new
    assert_equal 'blocked', client.host_action('ruby.example', 'block')['state']
    assert_equal ['ruby.example'], client.hosts(state: 'blocked', q: 'ruby.').map { |host| host['host'] }
    client.host_action('ruby.example', 'unblock')
    assert_equal 'healthy', client.host('ruby.example')['state']
  end

  def test_a_lost_answer_and_a_busy_node_are_repeated_with_the_same_key
    busy = { status: 503, headers: { 'Retry-After' => '0' }, body: '{"status":503}' }
    script = script({ drop: true }, busy, { status: 429, headers: { 'Retry-After' => '0' } }, ACCEPTED)
    assert_equal 1, script.client.deliver('{"id":"https://app.example/a/1"}', key_id: 'k', inboxes: ['i'], metadata: { n: 1 })['accepted']
    calls = script.calls
    assert_equal 4, calls.size
    assert_equal 1, calls.map { |call| call.except('remote') }.uniq.size, 'all repetitions are the same call'
    call = calls.first
    assert_equal '{"activity":{"id":"https://app.example/a/1"},"key_id":"k","inboxes":["i"],"metadata":{"n":1}}', call['body']
    assert_match(/\A\h{8}-\h{4}-/, call['headers']['idempotency-key'])
    assert_equal 'Bearer token', call['headers']['authorization']
    assert_equal "postrider-ruby/#{Postrider::VERSION}", call['headers']['user-agent']
  end

  def test_each_delivery_has_its_own_idempotency_key
    script = script(ACCEPTED, ACCEPTED)
    2.times { script.client.deliver('{}', key_id: 'k', inboxes: ['i']) }
    assert_equal 2, script.calls.map { |call| call['headers']['idempotency-key'] }.uniq.size
  end

  def test_gives_up_after_its_retries
    script = script(*Array.new(3) { { status: 503, headers: { 'Retry-After' => '0' } } })
    error = assert_raises(Postrider::Error) { script.client(retries: 2).host('one.example') }
    assert_predicate error, :temporary?
    assert_equal 3, script.calls.size
  end

  def test_raises_at_once_if_the_node_asks_for_a_longer_wait
    script = script({ status: 503, headers: { 'Retry-After' => '60' } })
    error = assert_raises(Postrider::Error) { script.client.host('one.example') }
    assert_equal 60, error.retry_after
    assert_equal 1, script.calls.size
  end

  def test_a_fault_of_the_call_is_not_repeated
    error = assert_raises(Postrider::Error) { Postrider::Client.new.deliver('{"type":"Create"}', key: KEY, inboxes: INBOXES) }
    assert_equal [422, 'body.activity.id', 'missing'], [error.status, *error.errors.first.values_at('location', 'code')]
    assert_includes error.message, 'body.activity.id'
  end

  def test_a_node_that_is_away
    error = assert_raises(Postrider::Error) { Postrider::Client.new(url: 'http://127.0.0.1:1', retries: 0).host('one.example') }
    assert_equal 0, error.status
    assert_predicate error, :temporary?
  end

  def test_a_forked_process_does_not_share_the_connection
    script = script(*Array.new(4) { { body: '{}' } })
    client = script.client
    client.host('parent')
    Process.wait(fork do
      client.host('child')
      exit!(0)
    end)
    client.host('parent')
    Thread.new { client.host('thread') }.join
    first, child, second, thread = script.calls.map { |call| call['remote'] }
    assert_equal first, second
    assert_equal 3, [first, child, thread].uniq.size
  end

  def test_feed
    script = script({ body: '{"items":[{"id":"1","type":"dead"},{"id":"2","type":"dead"}],"next_cursor":"2"}' },
                    { body: '{"items":[{"id":"3","type":"host_state"}],"next_cursor":"3"}' },
                    { body: '{"items":[],"next_cursor":"9"}' })
    pages = []
    end_of_feed = script.client.feed(after: '0', type: %w[dead host_state]) { |entries, cursor| pages << [entries.map { _1['id'] }, cursor] }
    assert_equal '9', end_of_feed
    assert_equal [[%w[1 2], '2'], [%w[3], '3'], [[], '9']], pages
    assert_equal %w[0 2 3].map { |after| "/v1/feed?after=#{after}&type=dead%2Chost_state&limit=500" }, script.calls.map { |call| call['uri'] }
  end

  def test_feed_from_now_has_a_cursor_and_no_entry
    script = script({ body: '{"items":[],"next_cursor":"7"}' })
    assert_equal '7', script.client.feed(after: 'now')
  end

  def test_the_gem_builds
    assert system('gem', 'build', '--silent', 'postrider.gemspec', '-o', File::NULL, chdir: File.dirname(__dir__))
  end
end
