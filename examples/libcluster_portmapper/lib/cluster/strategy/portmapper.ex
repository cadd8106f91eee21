defmodule Cluster.Strategy.Portmapper do
  @moduledoc """
  Connects the nodes that are registered with the port mappers of some hosts, as
  `portmapper_discovery` finds them: at once where a port mapper knows WATCH, else by asking
  it time and again.

      config :libcluster,
        topologies: [
          web: [
            strategy: Cluster.Strategy.Portmapper,
            config: [glob: "web*", hosts: [:local, "db.example", {:dns, "web.example"}]]
          ]
        ]

  The keys of `config` are the options of `portmapper_discovery`, but for `name` and
  `connect`. Nodes are connected to with the `connect` of the topology. None is ever
  disconnected: one that ends is disconnected by itself, and one that is registered no more
  may well be there.
  """

  use GenServer
  use Cluster.Strategy

  alias Cluster.Logger
  alias Cluster.Strategy.State

  @impl Cluster.Strategy
  def start_link([%State{} = state]), do: GenServer.start_link(__MODULE__, state)

  @impl GenServer
  def init(%State{topology: topology, connect: {module, function, arguments}} = state) do
    name = :"portmapper_discovery_#{topology}"
    connect = fn node -> apply(module, function, arguments ++ [node]) end
    options = Map.merge(Map.new(state.config), %{name: name, connect: connect})

    # It ends with this process, and this one with it.
    case :portmapper_discovery.start_link(options) do
      {:ok, _pid} ->
        {:ok, _reference} = :portmapper_discovery.subscribe(name)
        {:ok, state}

      {:error, reason} ->
        {:stop, reason}
    end
  end

  @impl GenServer
  def handle_info({:portmapper_discovery, _reference, event}, state) do
    log(event, state.topology)
    {:noreply, state}
  end

  defp log({:nodes, nodes}, topology), do: Logger.info(topology, "connected: #{inspect(nodes)}")
  defp log({:connected, node}, topology), do: Logger.info(topology, "connected to #{node}")

  defp log({:disconnected, node}, topology),
    do: Logger.info(topology, "disconnected from #{node}")

  defp log({:failed, node, reason}, topology),
    do: Logger.warn(topology, "cannot connect to #{node}: #{inspect(reason)}")

  defp log({kind, host}, topology), do: Logger.info(topology, "#{kind}: #{inspect(host)}")

  defp log({kind, host, detail}, topology),
    do: Logger.warn(topology, "#{kind}: #{inspect(host)}: #{inspect(detail)}")
end
