# frozen_string_literal: true

require_relative 'postrider/version'
require_relative 'postrider/error'
require_relative 'postrider/client'
require_relative 'postrider/webhook'

# Hands ActivityPub activities over to a Postrider node, which signs and delivers them.
module Postrider
end
