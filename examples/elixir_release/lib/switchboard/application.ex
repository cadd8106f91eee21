defmodule Switchboard.Application do
  @moduledoc "Makes the VM a node, which registers with the port mapper in the VM."
  use Application

  @impl true
  def start(_type, _arguments) do
    node = String.to_atom(Application.fetch_env!(:switchboard, :node))

    with {:ok, _pid} <- Node.start(node, :longnames) do
      Supervisor.start_link([Switchboard.Directory], strategy: :one_for_one)
    end
  end

  @impl true
  def stop(_state) do
    Node.stop()
  end
end
