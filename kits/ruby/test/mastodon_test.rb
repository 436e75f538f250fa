# frozen_string_literal: true

require_relative 'helper'
require_relative 'mastodon_standins'

# The initializer as README.md has it.
eval File.read(File.expand_path('../README.md', __dir__))[/^# initializer\.rb\n(.*?)^```$/m, 1]
Rails.reload
Rails.reload # as after a change of the code in development

class MastodonTest < Minitest::Test
  include Kit

  HandOverWorker = Postrider::Mastodon::HandOverWorker
  HostWorker = Postrider::Mastodon::Availability::HostWorker
  PEM = KEY[:private_key_pem]

  def setup
    Sidekiq::Worker.clear_all
    Postrider::Mastodon.client = nil
    Account.new(1, 'alice', PEM)
    Account.new(2, 'gone', PEM, deleted: true)
    AccountOf47.new(3, 'carol', PEM)
    AccountOf47.new(4, 'dave', PEM, deleted: true)
  end

  # Makes Mastodon's calls go to the stand-in, and returns the script.
  def play(*replies)
    script = script(*replies)
    Postrider::Mastodon.client = script.client(retries: 0)
    script
  end

  def bodies(script) = script.calls.map { |call| JSON.parse(call['body']) }
  def activity(name) = %({"id":"https://app.example/a/ruby/#{name}","type":"Create","actor":"https://app.example/users/alice"})

  def test_a_post_to_many_inboxes_is_one_job
    inboxes = Array.new(400) { |i| "https://host#{i}.example/inbox" }
    ActivityPub::DeliveryWorker.push_bulk(inboxes, limit: 1_000) { |inbox| [activity('bulk'), 1, inbox, {}] }
    assert_equal 1, HandOverWorker.jobs.size
    assert_empty ActivityPub::DeliveryWorker.jobs
    script = play(ACCEPTED)
    HandOverWorker.drain
    call = bodies(script).first
    assert_equal inboxes, call['inboxes']
    assert_equal 'normal', call['priority']
    assert_equal({ 'key_id' => 'https://app.example/users/alice#main-key', 'private_key_pem' => PEM }, call['key'])
    refute_includes call, 'final_statuses'
  end

  def test_the_real_node_gets_every_way_to_enqueue
    Postrider::Mastodon.client = Postrider::Client.new
    ActivityPub::DeliveryWorker.push_bulk(INBOXES) { |inbox| [activity('push_bulk'), 1, inbox] }
    ActivityPub::DeliveryWorker.perform_bulk(INBOXES.map { |inbox| [activity('perform_bulk'), 1, inbox] })
    INBOXES.each do |inbox|
      ActivityPub::DeliveryWorker.perform_async(activity('perform_async'), 1, inbox)
      ActivityPub::DeliveryWorker.perform_in(60, activity('perform_in'), 1, inbox, { 'synchronize_followers' => true })
      ActivityPub::LowPriorityDeliveryWorker.perform_async(activity('low'), 1, inbox)
    end
    assert_equal 8, HandOverWorker.jobs.size
    assert_in_delta Time.now.to_f + 60, HandOverWorker.jobs[3]['at'], 30
    HandOverWorker.drain
    assert_empty Rails::LOG.string
  end

  def test_jobs_of_different_activities_and_senders_stay_apart
    ActivityPub::DeliveryWorker.push_bulk([['a', 1], ['b', 1], ['a', 3], ['a', 1]]) { |json, sender| [json, sender, "inbox of #{json}#{sender}"] }
    assert_equal [['a', 1, 2], ['b', 1, 1], ['a', 3, 1]], HandOverWorker.jobs.map { |job| job['args'].then { |json, id, to| [json, id, to.size] } }
  end

  def test_priorities
    script = play(ACCEPTED, ACCEPTED)
    ActivityPub::LowPriorityDeliveryWorker.push_bulk(['i']) { |inbox| [activity('p'), 1, inbox] }
    ActivityPub::DeliveryWorker.perform_async(activity('p'), 1, 'i', { 'bypass_availability' => true })
    HandOverWorker.drain
    assert_equal %w[low high], bodies(script).map { |call| call['priority'] }
  end

  def test_the_job_is_the_idempotency_key
    script = play({ status: 503 }, ACCEPTED)
    ActivityPub::DeliveryWorker.perform_async(activity('key'), 1, 'i')
    job = HandOverWorker.jobs.first
    2.times { HandOverWorker.process_job(job.dup) rescue assert_predicate($!, :temporary?) }
    assert_equal ["sidekiq-#{job['jid']}"], script.calls.map { |call| call['headers']['idempotency-key'] }.uniq
    assert_equal 2, script.calls.size
  end

  def test_what_sidekiq_repeats
    { 0 => true, 401 => true, 403 => true, 429 => true, 503 => true, 413 => false, 422 => false }.each do |status, repeated|
      play(status.zero? ? { drop: true } : { status:, headers: { 'Content-Type' => 'application/problem+json' }, body: '{"detail":"why"}' })
      ActivityPub::DeliveryWorker.perform_async(activity('x'), 1, 'i')
      repeated ? assert_raises(Postrider::Error, "after #{status}") { HandOverWorker.drain } : HandOverWorker.drain
      HandOverWorker.clear
    end
    assert_equal 2, Rails::LOG.string.scan('refused an activity').size
  ensure
    Rails::LOG.truncate(0)
  end

  def test_a_lost_answer_with_other_bytes_is_no_fault
    mismatch = '{"errors":[{"location":"header.Idempotency-Key","code":"idempotency_mismatch"}]}'
    play({ status: 422, headers: { 'Content-Type' => 'application/problem+json' }, body: mismatch })
    ActivityPub::DeliveryWorker.perform_async(activity('x'), 1, 'i')
    HandOverWorker.drain
    assert_empty Rails::LOG.string
  end

  def test_followers_synchronization
    script = play(ACCEPTED)
    inboxes = %w[https://one.example/inbox https://two.example/inbox]
    ActivityPub::DeliveryWorker.push_bulk(inboxes) { |inbox| [activity('sync'), 1, inbox, { 'synchronize_followers' => true }] }
    HandOverWorker.drain
    call = bodies(script).first
    refute_includes call, 'inboxes'
    assert_equal inboxes, call['recipients'].map { |recipient| recipient['inbox'] }
    assert_equal 'collectionId="https://app.example/users/alice/followers", digest="hash-of-two.example", url="https://app.example/users/alice/sync"',
                 call['recipients'][1]['headers']['Collection-Synchronization']
  end

  def test_the_keys_of_mastodon_up_to_4_6
    script = play(ACCEPTED, ACCEPTED)
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 1, 'i')
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 1, 'i', { 'sign_with' => 'old pem' })
    HandOverWorker.drain
    key_id = 'https://app.example/users/alice#main-key'
    assert_equal [{ 'key_id' => key_id, 'private_key_pem' => PEM }, { 'key_id' => key_id, 'private_key_pem' => 'old pem', 'pin' => true }],
                 bodies(script).map { |call| call['key'] }
  end

  def test_the_keys_of_mastodon_4_7
    Object.const_set(:Keypair, KeypairOf47)
    Account.find(3).keypairs.push(KeypairOf47.new(4, '#4', '4', true, :rsa), KeypairOf47.new(3, '#3', '3', true, :rsa),
                                  KeypairOf47.new(2, '#2', '2', false, :rsa), KeypairOf47.new(1, '#1', '1', true, :ed25519))
    script = play(*Array.new(4) { ACCEPTED })
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 3, 'i')
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 3, 'i', { 'sign_with' => { 'local_fragment' => '#old', 'private_key' => 'old' } })
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 3, 'i', { 'sign_with' => 'pem' })
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 4, 'i')
    HandOverWorker.drain
    assert_equal [
      { 'key_id' => '#3', 'private_key_pem' => '3' },
      { 'key_id' => 'https://app.example/users/carol#old', 'private_key_pem' => 'old', 'pin' => true },
      { 'key_id' => 'https://app.example/users/carol#main-key', 'private_key_pem' => 'pem', 'pin' => true },
      { 'key_id' => 'https://app.example/users/dave#legacy-key', 'private_key_pem' => PEM }
    ], bodies(script).map { |call| call['key'] }
    assert_equal [nil, nil, nil, [401]], bodies(script).map { |call| call['final_statuses'] }
  ensure
    Object.send(:remove_const, :Keypair)
  end

  def test_the_last_activity_of_a_deleted_account
    script = play(ACCEPTED)
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 2, 'i')
    ActivityPub::DeliveryWorker.perform_async(activity('k'), 99, 'i') # its row is gone
    HandOverWorker.drain
    assert_equal [[401]], bodies(script).map { |call| call['final_statuses'] }
  end

  def test_the_update_of_a_rotated_key_is_signed_by_the_old_one
    script = play(ACCEPTED, ACCEPTED)
    ActivityPub::UpdateDistributionWorker.new.perform(1, { 'sign_with' => 'old pem' })
    ActivityPub::UpdateDistributionWorker.new.perform(1)
    HandOverWorker.drain
    assert_equal [['old pem', true], [PEM, nil]], bodies(script).map { |call| call['key'].values_at('private_key_pem', 'pin') }
  end

  def test_sidekiq_gets_plain_hashes
    worker = ActivityPub::UpdateDistributionWorker.new
    worker.instance_variable_set(:@options, { 'sign_with' => IndifferentHash['private_key', 'older'] })
    assert_instance_of Hash, worker.send(:options)['sign_with']
  end

  def test_jobs_from_before_the_installation_and_those_of_subclasses
    script = play(ACCEPTED, ACCEPTED)
    Sidekiq::Client.push('class' => ActivityPub::DeliveryWorker, 'args' => [activity('before'), 1, 'i'])
    ActivityPub::MigratedFollowDeliveryWorker.perform_async(activity('follow'), 1, 'i', 7)
    Sidekiq::Worker.drain_all
    assert_equal %w[before follow], bodies(script).map { |call| call['activity']['id'][/\w+\z/] }.sort
    assert_equal [[1, 7]], ActivityPub::MigratedFollowDeliveryWorker::UNFOLLOWED
  end
end
