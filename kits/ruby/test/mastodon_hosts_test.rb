# frozen_string_literal: true

require_relative 'helper'
require_relative 'mastodon_test' # installs the drop-in

class MastodonHostsTest < Minitest::Test
  include Kit

  Availability = Postrider::Mastodon::Availability
  REDIS = Redisable::REDIS

  def setup
    Sidekiq::Worker.clear_all
    UnavailableDomain.all.clear
    REDIS.send(:initialize)
    Availability.instance_variable_set(:@refreshed_at, nil)
    Postrider::Mastodon.client = Postrider::Client.new
  end

  def play(*replies)
    script = script(*replies)
    Postrider::Mastodon.client = script.client(retries: 0)
    script
  end

  def page(*items, **rest) = { body: JSON.generate({ items:, **rest }) }
  def entry(host, state) = { id: 'x', type: 'host_state', host:, state: }
  def days(domain) = REDIS.smembers("exhausted_deliveries:#{domain}").sort
  def state(host) = Postrider::Client.new.host(host)['state']

  def test_stop_and_restart_delivery
    admin = Admin::InstancesController.new('stopped.example')
    admin.stop_delivery
    Availability::HostWorker.drain
    assert_equal 'blocked', state('stopped.example')
    assert UnavailableDomain.exists?(domain: 'stopped.example')
    admin.restart_delivery
    Availability::HostWorker.drain
    assert_equal 'healthy', state('stopped.example')
    refute UnavailableDomain.exists?(domain: 'stopped.example')
    admin.clear_delivery_errors
    assert_equal [%w[stopped.example reset]], Availability::HostWorker.jobs.map { |job| job['args'] }
  end

  def test_inbound_activity_of_a_host_in_trouble_is_reported_once_a_minute
    DeliveryFailureTracker.new('fine.example').reset!
    UnavailableDomain.create(domain: 'trouble.example')
    REDIS.sadd('exhausted_deliveries:failing.example', %w[20260101])
    2.times { %w[trouble.example failing.example].each { |host| DeliveryFailureTracker.new(host).reset! } }
    assert_equal [%w[trouble.example seen], %w[failing.example seen]], Availability::HostWorker.jobs.map { |job| job['args'] }
    Availability::HostWorker.drain
    refute UnavailableDomain.exists?(domain: 'trouble.example'), 'the node has not found it unavailable'
    assert_empty days('failing.example')
  end

  def test_trackers_of_other_services_stay_as_they_are
    UnavailableDomain.create(domain: 'fasp.example')
    tracker = DeliveryFailureTracker.new('fasp.example', resolution: :minutes)
    tracker.reset!
    assert tracker.reset
    assert_empty Availability::HostWorker.jobs
  end

  def test_the_first_time_reads_all_hosts
    %w[old.example back.example].each { |domain| UnavailableDomain.create(domain:) }
    script = play(
      page(next_cursor: '5'),
      page({ host: 'dead.example', state: 'unavailable', failed_on: %w[2026-01-01 2026-01-02] }, { host: 'stopped.example:8443', state: 'blocked' },
           next_cursor: 'more'),
      page({ host: 'back.example', state: 'healthy', last_success_at: '2026-01-01T00:00:00Z' }, { host: 'old.example', state: 'failing', failed_on: %w[2026-01-03] }),
      page(next_cursor: '6')
    )
    Availability.tick
    assert_equal %w[dead.example old.example stopped.example], UnavailableDomain.all.keys.sort
    assert_equal %w[20260101 20260102], days('dead.example')
    assert_equal %w[20260103], days('old.example')
    assert_equal '6', REDIS.get(Availability::CURSOR)
    assert_equal %w[/v1/feed?after=now&limit=500 /v1/hosts?limit=500 /v1/hosts?limit=500&cursor=more /v1/feed?after=5&type=host_state&limit=500],
                 script.calls.map { |call| call['uri'] }
    assert_empty Rails::LOG.string
  end

  def test_then_it_reads_what_changed
    REDIS.set(Availability::CURSOR, '5')
    Availability.instance_variable_set(:@refreshed_at, Process.clock_gettime(Process::CLOCK_MONOTONIC))
    UnavailableDomain.create(domain: 'back.example')
    REDIS.sadd('exhausted_deliveries:back.example', %w[20260101])
    script = play(
      page(entry('dead.example', 'open'), entry('back.example', 'open'), next_cursor: '6'),
      page(entry('dead.example', 'unavailable'), entry('back.example', 'healthy'), next_cursor: '7'),
      page(next_cursor: '7'),
      { body: '{"host":"dead.example","state":"unavailable","failed_on":["2026-01-02"]}' }
    )
    Availability.tick
    assert_equal %w[dead.example], UnavailableDomain.all.keys
    assert_equal [%w[20260102], []], [days('dead.example'), days('back.example')]
    assert_equal '7', REDIS.get(Availability::CURSOR)
    assert_equal '/v1/hosts/dead.example', script.calls.last['uri']
    assert_empty Rails::LOG.string
  end

  def test_the_feed_of_the_real_node
    Availability.tick
    client = Postrider::Client.new
    client.host_action('feed.example', 'block')
    Availability.tick
    assert UnavailableDomain.exists?(domain: 'feed.example')
    client.host_action('feed.example', 'unblock')
    Availability.tick
    refute UnavailableDomain.exists?(domain: 'feed.example')
    REDIS.set(Availability::CURSOR, 'of another node')
    Availability.tick
    assert_nil REDIS.get(Availability::CURSOR)
  ensure
    Rails::LOG.truncate(0)
  end

  def test_a_cursor_that_the_node_refuses_is_forgotten
    REDIS.set(Availability::CURSOR, 'old')
    Availability.instance_variable_set(:@refreshed_at, Process.clock_gettime(Process::CLOCK_MONOTONIC))
    play({ status: 422, body: '{}', headers: { 'Content-Type' => 'application/problem+json' } })
    Availability.tick
    assert_nil REDIS.get(Availability::CURSOR)
    assert_includes Rails::LOG.string, 'not up to date'
  ensure
    Rails::LOG.truncate(0)
  end

  def test_a_node_that_is_away_changes_nothing
    REDIS.set(Availability::CURSOR, '5')
    Availability.instance_variable_set(:@refreshed_at, Process.clock_gettime(Process::CLOCK_MONOTONIC))
    UnavailableDomain.create(domain: 'dead.example')
    play({ status: 503 })
    Availability.tick
    assert_equal '5', REDIS.get(Availability::CURSOR)
    assert UnavailableDomain.exists?(domain: 'dead.example')
  ensure
    Rails::LOG.truncate(0)
  end
end
