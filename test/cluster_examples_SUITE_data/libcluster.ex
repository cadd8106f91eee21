# As much of libcluster 3 as a strategy is compiled against.

defmodule Cluster.Strategy.State do
  defstruct [:topology, :connect, :disconnect, :list_nodes, :meta, :config]
end

defmodule Cluster.Strategy do
  @callback start_link([%Cluster.Strategy.State{}]) ::
              {:ok, pid} | :ignore | {:error, reason :: term}

  defmacro __using__(_) do
    quote do
      @behaviour Cluster.Strategy

      @impl Cluster.Strategy
      def start_link([_state]), do: :ignore
      def child_spec(args), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [args]}}
      defoverridable start_link: 1, child_spec: 1
    end
  end
end

defmodule Cluster.Logger do
  def info(topology, message), do: tell(:info, topology, message)
  def warn(topology, message), do: tell(:warn, topology, message)

  # To whoever is registered so.
  defp tell(level, topology, message), do: send(:libcluster_log, {level, topology, message})
end
