# frozen_string_literal: true

require 'minitest/autorun'
require 'postrider'

# Helpers of the tests: see the package comment of the folder above.
module Kit
  INBOXES = ENV.fetch('KIT_INBOXES').split
  KEY = { key_id: ENV.fetch('KIT_KEY_ID'), private_key_pem: File.read(ENV.fetch('KIT_KEY_FILE')) }.freeze
  ACCEPTED = { status: 202, body: '{"id":"1","accepted":1,"duplicates":0,"rejected":[],"url":"/v1/activities/1"}' }.freeze

  # A script of the stand-in for a node.
  class Script
    STANDIN = URI(ENV.fetch('KIT_STANDIN'))

    def initialize(name, *replies)
      @name = name
      body = JSON.generate(replies.map { |reply| { status: 200 }.merge(reply) })
      Net::HTTP.new(STANDIN.host, STANDIN.port).put("/scripts/#{name}", body, 'Content-Type' => 'application/json').value
    end

    def url = "#{STANDIN}/#{@name}"
    def client(**options) = Postrider::Client.new(url:, token: 'token', **options)
    def calls = JSON.parse(Net::HTTP.get(STANDIN + "/scripts/#{@name}"))
  end

  def script(*replies) = Script.new(name, *replies)

  # Waits until all deliveries of an activity have ended, and returns their counts.
  def counts(answer)
    200.times do
      counts = Postrider::Client.new.call(:get, answer['url'])['counts']
      return counts if counts['pending'].zero?

      sleep 0.05
    end
    flunk "deliveries are still pending: #{answer}"
  end
end
