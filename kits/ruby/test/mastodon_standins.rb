# frozen_string_literal: true

# As much of Mastodon, Rails and Redis as the drop-in touches, with their interfaces and none of their work.

require 'logger'
require 'set'
require 'sidekiq/testing'

Sidekiq.strict_args! # as from Sidekiq 7 on

# Mastodon makes one of a job's options, as ActiveSupport has it.
class IndifferentHash < Hash
  def to_hash = {}.merge(transform_keys(&:to_s))
end

class FakeRedis
  def initialize = @data = {}
  def get(key) = @data[key]
  def del(key) = @data.delete(key)
  def sadd(key, members) = (@data[key] ||= Set.new).merge(Array(members))
  def smembers(key) = (@data[key] || []).to_a
  def scard(key) = smembers(key).size

  def set(key, value, nx: false, ex: nil)
    return false if nx && @data.key?(key)

    @expiring = ex
    @data[key] = value
  end
end

module Redisable
  REDIS = FakeRedis.new
  def redis = REDIS
  def with_redis = yield(REDIS)
end

module Rails
  LOG = StringIO.new
  Executor = Class.new { def wrap = yield }

  class << self
    def application = self
    def config = self
    def logger = @logger ||= Logger.new(LOG)
    def executor = Executor.new
    def to_prepare(&block) = @prepare = block
    def reload = @prepare.call
  end
end

class Record
  class << self
    def all = @all ||= {}
    def find_by(id: nil, domain: nil) = all[id || domain]
    def find(id) = all.fetch(id)
    def exists?(domain:) = all.key?(domain)
    def create(domain:) = all[domain] = new(domain)
  end
end

class UnavailableDomain < Record
  def initialize(domain) = @domain = domain
  def destroy = self.class.all.delete(@domain)
end

class Account < Record
  attr_reader :id, :private_key

  def initialize(id, name, private_key, deleted: false)
    @id = id
    @name = name
    @private_key = private_key
    @deleted = deleted
    Account.all[id] = self
  end

  def suspended_permanently? = @deleted
  def uri = "https://app.example/users/#{@name}"
  def remote_followers_hash(inbox) = "hash-of-#{URI(inbox).host}"
end

# A row of the table that Mastodon has from 4.7 on. Tests of that version name it Keypair.
KeypairOf47 = Struct.new(:id, :full_uri, :private_key, :usable, :type) do
  class << self
    def from_worker_arg(account, arg)
      return new(nil, "#{account.uri}#main-key", arg) if arg.is_a?(String)

      new(nil, account.uri + arg['local_fragment'], arg['private_key'])
    end

    def from_legacy_account(account) = new(nil, "#{account.uri}#legacy-key", account.private_key)
  end
end

class KeypairsOf47 < Array
  def usable = KeypairsOf47.new(select(&:usable))
  def rsa = KeypairsOf47.new(select { |row| row.type == :rsa })
  def order(name) = sort_by(&name)
end

class AccountOf47 < Account
  def keypairs = @keypairs ||= KeypairsOf47.new
  def permanently_unavailable? = @deleted
  undef suspended_permanently?
end

class DeliveryFailureTracker
  include Redisable

  attr_reader :reset

  def initialize(host, resolution: :days)
    @host = host
    @resolution = resolution
  end

  def days = redis.scard("exhausted_deliveries:#{@host}")
  def available? = !UnavailableDomain.exists?(domain: @host)
  def reset! = @reset = true
end

module ActivityPub
  class TagManager
    def self.instance = new
    def key_uri_for(account) = "#{account.uri}#main-key"
  end

  class DeliveryWorker
    include Sidekiq::Worker

    # As the gem sidekiq-bulk has it.
    def self.push_bulk(items, limit: 10_000)
      items.each_slice(limit) { |some| Sidekiq::Client.push_bulk('class' => self, 'args' => some.map { |item| yield(item) }) }
    end

    def perform(*) = raise('Mastodon delivers itself')

    private

    def synchronization_header
      %(collectionId="#{@source_account.uri}/followers", digest="#{@source_account.remote_followers_hash(@inbox_url)}", url="#{@source_account.uri}/sync")
    end
  end

  class LowPriorityDeliveryWorker < DeliveryWorker; end

  class MigratedFollowDeliveryWorker < DeliveryWorker
    UNFOLLOWED = []

    def perform(json, account_id, inbox, old_account_id, options = {})
      super(json, account_id, inbox, options)
      UNFOLLOWED << [@source_account.id, old_account_id]
    end
  end

  class UpdateDistributionWorker
    include Sidekiq::Worker

    def perform(account_id, options = {})
      @options = options
      DeliveryWorker.push_bulk(Kit::INBOXES, limit: 1_000) { |inbox| [UPDATE, account_id, inbox, self.options] }
    end

    UPDATE = '{"id":"https://app.example/a/ruby/update","type":"Update","actor":"https://app.example/users/alice"}'

    protected

    def options = {}
  end
end

module Admin
  class InstancesController
    Instance = Struct.new(:domain)

    def initialize(domain) = @instance = Instance.new(domain)
    def stop_delivery = UnavailableDomain.create(domain: @instance.domain)
    def restart_delivery = UnavailableDomain.find_by(domain: @instance.domain)&.destroy
    def clear_delivery_errors = Redisable::REDIS.del("exhausted_deliveries:#{@instance.domain}")
  end
end
