defmodule LibclusterPortmapper.MixProject do
  use Mix.Project

  def project do
    [
      app: :libcluster_portmapper,
      version: "1.0.0",
      elixir: "~> 1.14",
      deps: deps()
    ]
  end

  # Included, so that it is loaded and not started: the port mapper itself is not wanted here.
  def application do
    [extra_applications: [:logger], included_applications: [:portmapper]]
  end

  # Outside of this repository, from wherever it is:
  #
  #     {:portmapper, git: "https://example.org/portmapper.git", branch: "main"}
  defp deps do
    [{:libcluster, "~> 3.3"}, {:portmapper, path: "../.."}]
  end
end
