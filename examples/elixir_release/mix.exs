defmodule Switchboard.MixProject do
  use Mix.Project

  def project do
    [
      app: :switchboard,
      version: "1.0.0",
      elixir: "~> 1.14",
      start_permanent: Mix.env() == :prod,
      deps: deps(),
      releases: [switchboard: [include_executables_for: [:unix]]]
    ]
  end

  def application do
    [extra_applications: [:logger], mod: {Switchboard.Application, []}]
  end

  # Outside of this repository, from wherever it is:
  #
  #     {:portmapper, git: "https://example.org/portmapper.git", branch: "main"}
  #
  # Either way mix has rebar3 compile it, and its hook has cargo build its library.
  defp deps do
    [{:portmapper, path: "../.."}]
  end
end
