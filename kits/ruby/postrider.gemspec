# frozen_string_literal: true

require_relative 'lib/postrider/version'

Gem::Specification.new do |gem|
  gem.name = 'postrider'
  gem.version = Postrider::VERSION
  gem.summary = 'Hands ActivityPub activities over to Postrider, which signs and delivers them'
  gem.description = 'A client for Postrider without dependencies, and a drop-in for Mastodon.'
  gem.authors = ['The Postrider authors']
  gem.homepage = 'https://github.com/postrider/postrider'
  gem.license = 'Apache-2.0'
  gem.required_ruby_version = '>= 3.1'
  gem.files = Dir['lib/**/*.rb'] + ['README.md']
end
