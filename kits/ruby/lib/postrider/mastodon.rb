# frozen_string_literal: true

require 'postrider'

require_relative 'mastodon/hand_over'
require_relative 'mastodon/availability'
require_relative 'mastodon/patches'

module Postrider
  # Lets Postrider make the deliveries of a Mastodon server. config/initializers/postrider.rb:
  #
  #   require 'postrider/mastodon'
  #   Postrider::Mastodon.install
  #
  # README.md describes what it does, and for which versions of Mastodon.
  module Mastodon
    class << self
      attr_writer :client

      # The client of all calls. It repeats little, as Sidekiq repeats the jobs that make them.
      def client = @client ||= Client.new(retries: 2)

      # Prepends the patches whenever Rails has loaded Mastodon's classes, and keeps the availability of hosts in step in
      # each Sidekiq process.
      def install
        ::Rails.application.config.to_prepare { Patches.apply }
        ::Sidekiq.configure_server { |config| config.on(:startup) { Availability.start } }
      end
    end
  end
end
